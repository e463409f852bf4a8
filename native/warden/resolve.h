/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, resolved once and held: what was looked at is what will be opened. */
#ifndef SANDGATE_RESOLVE_H
#define SANDGATE_RESOLVE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* A resolved path. `fd` (O_PATH) is the file, or the directory in which `name` does not exist. */
struct place {
	int fd;
	bool exists;
	char name[NAME_MAX + 1];
	size_t length;
	char path[PATH_MAX]; /* canonical, `length` bytes */
};

/*
 * Resolves `path`, relative to directory_fd unless it is absolute, as open(2) with `flags` would, except that
 * the magic links of /proc are refused (ELOOP), and so is what leads into the caller's own /proc directory (EACCES).
 * Returns 0 with ret_place->fd to be closed, or a negative errno; -ENOSYS when there is no /proc to ask.
 */
int resolve_path(int directory_fd, const char *path, int flags, struct place *ret_place);

/*
 * Resolves all of a path but its last name, with which it must end; slashes after it are no part of the name.
 * Returns a descriptor (O_PATH) of the directory, or a negative errno.
 */
int resolve_parent(int directory_fd, const char *path, char ret_name[NAME_MAX + 1], bool *ret_slashed);

#endif
