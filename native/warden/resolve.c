// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../kernel.h"
#include "resolve.h"
#include "wire.h"

#define LINK_LIMIT 40 /* of the kernel: path_resolution(7) */

static int open_place(int directory_fd, const char *path, int flags)
{
	struct open_request how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags),
				   .resolve = OPEN_NO_MAGICLINKS};

	for (;;) {
		long fd = syscall(NR_openat2, directory_fd, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

/* The path by which a descriptor is known. Returns its length or a negative errno. */
static ssize_t canonical_path(int fd, char ret_path[PATH_MAX])
{
	char name[32];
	ssize_t length;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	length = readlink(name, ret_path, PATH_MAX);
	if (length < 0)
		return errno == ENOENT ? -ENOSYS : -errno;
	if (length == PATH_MAX)
		return -ENAMETOOLONG;
	if (ret_path[0] != '/')
		return -EACCES; /* not reachable from this root */
	return length;
}

/* Whether a path of a proc file system goes through the directory of one of this process's threads. */
static bool is_own_proc(const char *path, size_t length)
{
	char task[64] = "/proc/self/task/";
	const size_t prefix = strlen(task);

	for (size_t at = 0; at < length;) {
		size_t end = at;

		while (end < length && path[end] != '/')
			end++;
		if (end > at && end - at < 16 && isdigit((unsigned char)path[at])) {
			memcpy(task + prefix, path + at, end - at);
			task[prefix + end - at] = '\0';
			if (faccessat(AT_FDCWD, task, F_OK, 0) == 0)
				return true;
		}
		at = end + 1;
	}
	return false;
}

static bool is_marked_deleted(const char *path, size_t length)
{
	static const char mark[] = " (deleted)";
	const size_t size = sizeof(mark) - 1;

	return length > size && memcmp(path + length - size, mark, size) == 0;
}

/* Completes a place from its descriptor: its canonical path, with the name when that does not exist. */
static int describe(struct place *place)
{
	struct statfs system;
	struct stat status;
	ssize_t length = canonical_path(place->fd, place->path);
	size_t name_length = strlen(place->name);

	if (length < 0)
		return (int)length;
	if (fstat(place->fd, &status) < 0 || fstatfs(place->fd, &system) < 0)
		return -errno;
	if (status.st_nlink == 0 && is_marked_deleted(place->path, (size_t)length))
		return -ENOENT; /* removed meanwhile: its path says nothing */
	if (system.f_type == PROC_SUPER_MAGIC && is_own_proc(place->path, (size_t)length))
		return -EACCES;
	if (!place->exists) {
		if (length == 1)
			length = 0; /* the root's own slash */
		if ((size_t)length + 1 + name_length >= PATH_MAX)
			return -ENAMETOOLONG;
		place->path[length++] = '/';
		memcpy(place->path + length, place->name, name_length);
		length += (ssize_t)name_length;
	}
	place->length = (size_t)length;
	return 0;
}

/* How a path ends. */
enum last_component {
	LAST_NAME,	/* an ordinary name */
	LAST_SLASHED,	/* an ordinary name and slashes: it can only be a directory */
	LAST_DIRECTORY, /* the root, a dot or a dot-dot */
};

/* Splits off the last component of a path that is not empty; the name only where it is an ordinary one. */
static int split_last(const char *path, char ret_parent[PATH_MAX], char ret_name[NAME_MAX + 1])
{
	size_t end = strlen(path);
	size_t start;
	bool slashed = path[end - 1] == '/';

	while (end > 0 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	if (end == 0 || (end - start == 1 && path[start] == '.') ||
	    (end - start == 2 && path[start] == '.' && path[start + 1] == '.'))
		return LAST_DIRECTORY;
	if (end - start > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_name, path + start, end - start);
	ret_name[end - start] = '\0';
	if (start == 0)
		strcpy(ret_parent, ".");
	else {
		memcpy(ret_parent, path, start);
		ret_parent[start] = '\0';
	}
	return slashed ? LAST_SLASHED : LAST_NAME;
}

/* Opens what exists at (directory, path). -ENOENT may be a dangling link. */
static int open_existing(int directory_fd, const char *path, int flags)
{
	bool follow = !(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
	cleanup_close int fd =
		open_place(directory_fd, path, (flags & O_DIRECTORY) | (follow ? 0 : O_NOFOLLOW));
	struct stat status;
	int result;

	if (fd < 0)
		return fd;
	if ((flags & O_NOFOLLOW) && !(flags & O_PATH) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL)) {
		if (fstat(fd, &status) < 0)
			return -errno;
		if (S_ISLNK(status.st_mode))
			return -ELOOP;
	}
	result = fd;
	fd = -1;
	return result;
}

/*
 * Finds where open(O_CREAT) would create, following dangling links by hand as the kernel does.
 * Each round resolves the parent once and looks at one name in it.
 */
static int resolve_creation(int directory_fd, const char *path, int flags, struct place *place)
{
	bool follow = !(flags & (O_NOFOLLOW | O_EXCL));
	cleanup_close int base_fd = -1;
	char current[PATH_MAX];
	char parent[PATH_MAX];

	strcpy(current, path);
	for (int links = 0; links <= LINK_LIMIT; links++) {
		int from_fd = base_fd >= 0 ? base_fd : directory_fd;
		cleanup_close int parent_fd = -1;
		char target[PATH_MAX];
		ssize_t length;
		int fd, r;

		r = split_last(current, parent, place->name);
		if (r < 0)
			return r;
		/* The kernel looks up what leads to a directory before it refuses to create that. */
		parent_fd = open_place(from_fd, r == LAST_DIRECTORY ? current : parent, O_DIRECTORY);
		if (parent_fd < 0)
			return parent_fd;
		if (r == LAST_DIRECTORY && (flags & O_EXCL))
			return -EEXIST;
		if (r != LAST_NAME)
			return -EISDIR;

		fd = open_existing(parent_fd, place->name, flags);
		if (fd >= 0) {
			place->fd = fd;
			place->exists = true;
			place->name[0] = '\0';
			return 0;
		}
		if (fd != -ENOENT)
			return fd;
		length = readlinkat(parent_fd, place->name, target, sizeof(target));
		if (length < 0 && errno == ENOENT) {
			place->fd = parent_fd;
			place->exists = false;
			parent_fd = -1;
			return 0;
		}
		if (length < 0 && errno == EINVAL)
			continue; /* it was created meanwhile: look again */
		if (length < 0)
			return -errno;
		if (!follow)
			return -ELOOP;
		if (length == (ssize_t)sizeof(target))
			return -ENAMETOOLONG;
		if (length == 0)
			return -ENOENT;
		memcpy(current, target, (size_t)length);
		current[length] = '\0';
		close_fd(&base_fd);
		base_fd = parent_fd;
		parent_fd = -1;
	}
	return -ELOOP;
}

int resolve_path(int directory_fd, const char *path, int flags, struct place *ret_place)
{
	struct place *place = ret_place;
	int r;

	place->fd = -1;
	place->exists = true;
	place->name[0] = '\0';
	if ((flags & (O_CREAT | O_DIRECTORY | O_PATH)) == (O_CREAT | O_DIRECTORY))
		return -EINVAL;
	if (path[0] == '\0')
		return -ENOENT;
	if ((flags & O_CREAT) && !(flags & O_PATH)) {
		r = resolve_creation(directory_fd, path, flags, place);
	} else {
		place->fd = open_existing(directory_fd, path, flags & ~O_CREAT);
		r = place->fd < 0 ? place->fd : 0;
	}
	if (r == 0)
		r = describe(place);
	if (r < 0)
		close_fd(&place->fd);
	return r;
}

int resolve_parent(int directory_fd, const char *path, char ret_name[NAME_MAX + 1], bool *ret_slashed)
{
	char parent[PATH_MAX];
	int r;

	if (path[0] == '\0')
		return -ENOENT;
	r = split_last(path, parent, ret_name);
	if (r < 0 || r == LAST_DIRECTORY)
		return r < 0 ? r : -EISDIR;
	*ret_slashed = r == LAST_SLASHED;
	return open_place(directory_fd, parent, O_DIRECTORY);
}
