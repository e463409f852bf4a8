// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "tree.h"
#include "wire.h"

int clone_tree(int directory_fd, const char *path, unsigned int flags)
{
	int fd = (int)syscall(NR_open_tree, directory_fd, path, flags | TREE_CLONE | TREE_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int place_tree(int tree_fd, int directory_fd, const char *path)
{
	return syscall(NR_move_mount, tree_fd, "", directory_fd, path, MOVE_FROM_DESCRIPTOR | MOVE_TO_SYMLINKS |
			       (path[0] == '\0' ? MOVE_TO_DESCRIPTOR : 0)) < 0
		       ? -errno
		       : 0;
}

int new_filesystem(const char *type, const char *options, size_t length, unsigned int attributes)
{
	cleanup_close int context_fd = (int)syscall(NR_fsopen, type, FS_CLOEXEC);
	char text[256], *state;
	int fd;

	if (context_fd < 0)
		return -errno;
	if (length >= sizeof(text))
		return -E2BIG;
	memcpy(text, options, length);
	text[length] = '\0';
	for (char *key = strtok_r(text, ",", &state); key != NULL; key = strtok_r(NULL, ",", &state)) {
		char *value = strchr(key, '=');

		if (value == NULL)
			return -EINVAL;
		*value++ = '\0';
		if (syscall(NR_fsconfig, context_fd, FS_SET_STRING, key, value, 0) < 0)
			return -errno;
	}
	if (syscall(NR_fsconfig, context_fd, FS_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = (int)syscall(NR_fsmount, context_fd, FS_CLOEXEC, attributes);
	return fd < 0 ? -errno : fd;
}

int set_attributes(int tree_fd, uint64_t attributes, unsigned int flags)
{
	struct mount_attributes change = {.set = attributes};

	return syscall(NR_mount_setattr, tree_fd, "", AT_EMPTY_PATH | flags, &change, sizeof(change)) < 0 ? -errno : 0;
}
