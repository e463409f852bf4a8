// SPDX-License-Identifier: Apache-2.0
/* A program that tests let run: it ends with 10. */
int main(void)
{
	return 10;
}
