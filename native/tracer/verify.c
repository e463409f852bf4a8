// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../warden/wire.h"
#include "verify.h"

/* By the file that the kernel mapped, whatever its name is by now. Asks no server for news of it. */
static bool runs_file(pid_t pid, uint64_t device, uint64_t inode)
{
	struct statx status;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &status) < 0)
		return false;
	return status.stx_ino == inode && makedev(status.stx_dev_major, status.stx_dev_minor) == device;
}

/* By the new program's own stack, to which the kernel copied them. proc(5) */
static bool has_arguments(pid_t pid, const struct expected *expected)
{
	cleanup_close int fd = -1;
	size_t compared = 0;
	char path[32], buffer[4096];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	for (;;) {
		ssize_t count = read(fd, buffer, sizeof(buffer));
		size_t left = expected->length - compared;

		if (count < 0)
			return false;
		if (count == 0)
			return left == 0;
		if ((size_t)count > left && !expected->prefix)
			return false;
		if ((size_t)count < left)
			left = (size_t)count;
		if (memcmp(buffer, expected->arguments + compared, left) != 0)
			return false;
		compared += left;
		if (expected->prefix && compared == expected->length)
			return true;
	}
}

bool is_expected(pid_t pid, const struct expected *expected)
{
	return runs_file(pid, expected->device, expected->inode) && has_arguments(pid, expected);
}
