#include <stdio.h>

int main(void)
{
	int c = getchar();
	return c != 'o';
}
