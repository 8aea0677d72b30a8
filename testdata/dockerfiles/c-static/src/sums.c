#include <stdio.h>
#include <stdlib.h>

#include "add.h"

int main(int count, char **words)
{
	long sum = 0;
	for (int i = 1; i < count; i++)
		sum = add(sum, atol(words[i]));
	return printf("%ld\n", sum) < 0;
}
