// SPDX-License-Identifier: Apache-2.0
/* A program that tests forbid to run: it ends with 11. */
int main(void)
{
	return 11;
}
