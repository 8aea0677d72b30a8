#include <greet.h>
#include <stdio.h>

int main(void)
{
	return puts(greet()) < 0;
}
