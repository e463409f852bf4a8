// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "scratch.h"
#include "tree.h"
#include "wire.h"

int need_scratch(struct scratch *scratch)
{
	static const char options[] = "mode=755";
	cleanup_close int tree_fd = -1;
	struct stat status;
	int r;

	if (scratch->fd >= 0)
		return 0;
	tree_fd = new_filesystem("tmpfs", options, sizeof(options) - 1, MOUNT_NOSUID);
	if (tree_fd < 0)
		return tree_fd;
	if (fstat(tree_fd, &status) < 0)
		return -errno;
	/* Parts of a tree can only be shown once it is mounted: over the root, which hides nothing from paths. */
	r = place_tree(tree_fd, AT_FDCWD, "/");
	if (r < 0)
		return r;
	scratch->device = status.st_dev;
	scratch->fd = tree_fd;
	tree_fd = -1;
	return 0;
}

int release_scratch(struct scratch *scratch)
{
	int *fds[] = {&scratch->nothing_fd, &scratch->fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] < 0)
			continue;
		if (fchdir(*fds[i]) < 0 || umount2(".", MNT_DETACH) < 0)
			return -errno;
		close_fd(fds[i]);
	}
	return chdir("/") < 0 ? -errno : 0;
}

int need_nothing(struct scratch *scratch)
{
	cleanup_close int tree_fd = -1;
	int r = need_scratch(scratch);

	if (r < 0 || scratch->nothing_fd >= 0)
		return r;
	if (mkdirat(scratch->fd, "nothing", 0755) < 0 && errno != EEXIST)
		return -errno;
	if ((mkdirat(scratch->fd, "nothing/" NOTHING_DIRECTORY, 0) < 0 ||
	     mknodat(scratch->fd, "nothing/" NOTHING_FILE, S_IFREG, 0) < 0) &&
	    errno != EEXIST)
		return -errno;
	tree_fd = clone_tree(scratch->fd, "nothing", 0);
	if (tree_fd < 0)
		return tree_fd;
	r = set_attributes(tree_fd, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC, 0);
	if (r == 0)
		r = place_tree(tree_fd, AT_FDCWD, "/");
	if (r < 0)
		return r;
	scratch->nothing_fd = tree_fd;
	tree_fd = -1;
	return 0;
}

int change_root(struct scratch *scratch, int tree_fd)
{
	cleanup_close int again_fd = -1;
	int r;

	/* What is mounted over the old root goes away with it. */
	if (scratch->fd >= 0) {
		again_fd = clone_tree(scratch->fd, "", AT_EMPTY_PATH);
		if (again_fd < 0)
			return again_fd;
	}
	r = place_tree(tree_fd, AT_FDCWD, "/");
	if (r < 0)
		return r;
	/* The old root goes below the new one, and then away. pivot_root(2), NOTES. */
	if (fchdir(tree_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		return -errno;
	if (scratch->fd < 0)
		return 0;
	close_fd(&scratch->fd);
	close_fd(&scratch->nothing_fd);
	r = place_tree(again_fd, AT_FDCWD, "/");
	if (r < 0)
		return r;
	scratch->fd = again_fd;
	again_fd = -1;
	return 0;
}

int seal_copies(struct scratch *scratch)
{
	for (unsigned int i = 0; i < scratch->copy_count; i++) {
		int r = set_attributes(scratch->copy_fds[i], MOUNT_RDONLY, 0);

		if (r < 0)
			return r;
	}
	scratch->sealed = true;
	return 0;
}

void close_scratch(struct scratch *scratch)
{
	close_fd(&scratch->fd);
	close_fd(&scratch->nothing_fd);
	while (scratch->copy_count > 0)
		close_fd(&scratch->copy_fds[--scratch->copy_count]);
}
