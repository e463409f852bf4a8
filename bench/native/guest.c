// SPDX-License-Identifier: Apache-2.0
/* Bench guest: `files DIR COUNT` opens, reads and closes DIR/0 … DIR/COUNT-1 and prints nanoseconds a file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int files(const char *directory, long count)
{
	char path[4096], byte;
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/%ld", directory, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, &byte, 1) != 1)
			return 1;
		close(fd);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.1f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)count);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "files") == 0)
		return files(argv[2], atol(argv[3]));
	return 2;
}
