// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "mountpoint.h"
#include "tree.h"
#include "wire.h"

#define ENTRY_LIMIT 4096u /* of a directory that is replaced by a copy */

struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int make_file(int directory_fd, const char *name)
{
	return mknodat(directory_fd, name, S_IFREG | 0644, 0) < 0 ? -errno : 0;
}

/* Shows one entry of a directory in its copy. */
static int copy_entry(int from_fd, int to_fd, const char *name)
{
	cleanup_close int tree_fd = -1;
	char target[PATH_MAX];
	struct stat status;

	if (fstatat(from_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* removed meanwhile */
	if (S_ISLNK(status.st_mode)) {
		ssize_t length = readlinkat(from_fd, name, target, sizeof(target) - 1);

		if (length < 0)
			return -errno;
		target[length] = '\0';
		return symlinkat(target, to_fd, name) < 0 ? -errno : 0;
	}
	if (S_ISDIR(status.st_mode) ? mkdirat(to_fd, name, 0755) < 0 : make_file(to_fd, name) < 0)
		return -errno;
	tree_fd = clone_tree(from_fd, name, TREE_RECURSIVE | AT_SYMLINK_NOFOLLOW);
	return tree_fd < 0 ? tree_fd : place_tree(tree_fd, to_fd, name);
}

static int copy_entries(int from_fd, int to_fd)
{
	char buffer[8192] __attribute__((aligned(8)));
	unsigned int count = 0;

	for (;;) {
		long got = syscall(SYS_getdents64, from_fd, buffer, sizeof(buffer));

		if (got <= 0)
			return got < 0 ? -errno : 0;
		for (long at = 0; at < got;) {
			const struct entry *entry = (const void *)(buffer + at);
			int r;

			at += entry->length;
			if (is_dots(entry->name))
				continue;
			if (++count > ENTRY_LIMIT)
				return -E2BIG;
			r = copy_entry(from_fd, to_fd, entry->name);
			if (r < 0)
				return r;
		}
	}
}

/* Replaces the directory at path by a copy in the scratch. Returns a descriptor to make things in it, or a negative errno. */
static int copy_directory(struct scratch *scratch, const char *path)
{
	cleanup_close int from_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int to_fd = -1;
	cleanup_close int tree_fd = -1;
	struct stat status;
	char name[16];
	int r;

	if (from_fd < 0 || fstat(from_fd, &status) < 0)
		return -errno;
	if (scratch->copy_count == COPY_LIMIT)
		return -E2BIG;
	snprintf(name, sizeof(name), "copy%u", scratch->copy_count);
	if (mkdirat(scratch->fd, name, 0700) < 0)
		return -errno;
	to_fd = openat(scratch->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to_fd < 0)
		return -errno;
	r = copy_entries(from_fd, to_fd);
	if (r < 0)
		return r;
	/* Whose it is matters less than what it lets others do; an ordinary user cannot give it away. */
	(void)!fchown(to_fd, status.st_uid, status.st_gid);
	if (fchmod(to_fd, status.st_mode & 07777) < 0)
		return -errno;
	tree_fd = clone_tree(scratch->fd, name, TREE_RECURSIVE);
	if (tree_fd < 0)
		return tree_fd;
	r = strcmp(path, "/") == 0 ? change_root(scratch, tree_fd) : place_tree(tree_fd, AT_FDCWD, path);
	if (r < 0)
		return r;
	scratch->copy_fds[scratch->copy_count++] = tree_fd;
	tree_fd = -1;
	r = to_fd;
	to_fd = -1;
	return r;
}

static int make_last(int directory_fd, const char *name, enum missing kind, const char *target)
{
	switch (kind) {
	case MISSING_DIRECTORY:
		return mkdirat(directory_fd, name, 0755) < 0 ? -errno : 0;
	case MISSING_FILE:
		return make_file(directory_fd, name);
	default:
		return symlinkat(target, directory_fd, name) < 0 ? -errno : 0;
	}
}

/* Makes the names of `rest` below a directory of the scratch; all but the last one are directories. */
static int make_below(int top_fd, char *rest, enum missing kind, const char *target)
{
	cleanup_close int at_fd = fcntl(top_fd, F_DUPFD_CLOEXEC, 0);
	char *state, *name = strtok_r(rest, "/", &state);

	while (name != NULL) {
		char *next = strtok_r(NULL, "/", &state);
		int fd;

		if (next == NULL)
			return make_last(at_fd, name, kind, target);
		if (mkdirat(at_fd, name, 0755) < 0)
			return -errno;
		fd = openat(at_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		close_fd(&at_fd);
		at_fd = fd;
		name = next;
	}
	return 0;
}

int make_missing(struct scratch *scratch, const char *path, enum missing kind, const char *target)
{
	cleanup_close int top_fd = -1;
	char parent[PATH_MAX], rest[PATH_MAX];
	struct stat status;
	size_t length = strlen(path);
	bool own;
	int r;

	if (fstatat(AT_FDCWD, path, &status, kind == MISSING_LINK ? AT_SYMLINK_NOFOLLOW : 0) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	/* The longest beginning that exists. */
	memcpy(parent, path, length + 1);
	do {
		while (length > 0 && parent[length - 1] == '/')
			length--;
		while (length > 0 && parent[length - 1] != '/')
			length--;
		if (length == 0)
			return -ENOENT;
		parent[length] = '\0';
	} while (fstatat(AT_FDCWD, parent, &status, 0) < 0 && errno == ENOENT);
	strcpy(rest, path + length);

	r = need_scratch(scratch);
	if (r < 0)
		return r;
	if (fstatat(AT_FDCWD, parent, &status, 0) < 0)
		return -errno;
	if (!S_ISDIR(status.st_mode))
		return -ENOTDIR;
	own = status.st_dev == scratch->device || (scratch->tmpfs != 0 && status.st_dev == scratch->tmpfs);
	if (own)
		top_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	else
		top_fd = copy_directory(scratch, parent);
	if (top_fd < 0)
		return own ? -errno : top_fd;
	return make_below(top_fd, rest, kind, target);
}
