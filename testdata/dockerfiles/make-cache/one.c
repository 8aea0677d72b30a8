#include <stdio.h>

int main(void)
{
	return puts("one") < 0;
}
