// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../kernel.h"
#include "mountpoint.h"
#include "mounts.h"
#include "tree.h"
#include "wire.h"

/* What the steps of one plan share. The descriptor table may be the warden's. */
struct mounting {
	int trees[SG_MAX_MOUNTS]; /* of each step: what it shows, or keeps; -1 */
	struct scratch scratch;
	struct launch_page *page;
};

static const char *const names[] = {
	[SG_MOUNT_ROOT] = "root",	      [SG_MOUNT_BIND] = "bind", [SG_MOUNT_TMPFS] = "tmpfs",
	[SG_MOUNT_PROC] = "proc",	      [SG_MOUNT_FILE] = "file", [SG_MOUNT_HIDE] = "hide",
	[SG_MOUNT_WRITABLE] = "writable", [SG_MOUNT_READ_ONLY] = "read-only",
	[SG_MOUNT_LINK] = "link",
};

static bool is_absence(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -EACCES;
}

static bool is_directory(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Mounts a tree at the path of its step, which is made if it is missing and the step says so. */
static int show(struct mounting *mounting, const struct sg_mount *step, int tree_fd)
{
	int r = 0;

	if (step->flags & SG_MOUNT_RDONLY)
		r = set_attributes(tree_fd, MOUNT_RDONLY, TREE_RECURSIVE);
	if (r == 0 && (step->flags & SG_MOUNT_MAKE))
		r = make_missing(&mounting->scratch, mount_path(step),
				 is_directory(tree_fd) ? MISSING_DIRECTORY : MISSING_FILE, NULL);
	return r < 0 ? r : place_tree(tree_fd, AT_FDCWD, mount_path(step));
}

static int show_tmpfs(struct mounting *mounting, const struct sg_mount *step)
{
	cleanup_close int tree_fd =
		new_filesystem("tmpfs", mount_data(step), step->data, MOUNT_NOSUID | MOUNT_NODEV);
	struct stat status;
	int r;

	if (tree_fd < 0)
		return tree_fd;
	if (fstat(tree_fd, &status) < 0)
		return -errno;
	r = show(mounting, step, tree_fd);
	if (r == 0)
		mounting->scratch.tmpfs = status.st_dev;
	return r;
}

static int write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);

		if (written < 0 && errno != EINTR)
			return -errno;
		if (written > 0) {
			bytes += written;
			size -= (size_t)written;
		}
	}
	return 0;
}

static int show_file(struct mounting *mounting, const struct sg_mount *step, size_t index)
{
	cleanup_close int file_fd = -1;
	cleanup_close int tree_fd = -1;
	char name[32];
	int r = need_scratch(&mounting->scratch);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "file%zu", index);
	file_fd = openat(mounting->scratch.fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file_fd < 0)
		return -errno;
	r = write_all(file_fd, mount_data(step), step->data);
	if (r < 0)
		return r;
	if (fchmod(file_fd, step->mode & 0777) < 0)
		return -errno;
	tree_fd = clone_tree(mounting->scratch.fd, name, 0);
	r = tree_fd < 0 ? tree_fd : show(mounting, step, tree_fd);
	if (r < 0 || !(step->flags & SG_MOUNT_OPEN))
		return r;
	if (mounting->page->open_file_count == SG_MAX_OPEN_FILES)
		return -EMFILE;
	mounting->page->open_files[mounting->page->open_file_count++] = file_fd;
	file_fd = -1;
	return 0;
}

/* Whether the step is about what it was planned for: 0, or -ESTALE. */
static int check_identity(const struct sg_mount *step, int fd)
{
	struct sg_identity expected;
	struct stat status;

	if (step->data == 0)
		return 0;
	if (step->data != sizeof(expected))
		return -EINVAL;
	memcpy(&expected, mount_data(step), sizeof(expected));
	if (fstat(fd, &status) < 0)
		return -errno;
	return status.st_ino == expected.inode && major(status.st_dev) == expected.device_major &&
			       minor(status.st_dev) == expected.device_minor
		       ? 0
		       : -ESTALE;
}

/* Covers what is there with one of two things that stand for all that is hidden. */
static int hide(struct mounting *mounting, const struct sg_mount *step)
{
	cleanup_close int place_fd = open(mount_path(step), O_PATH | O_CLOEXEC);
	int r;

	if (place_fd < 0)
		return -errno;
	r = check_identity(step, place_fd);
	if (r == 0)
		r = need_nothing(&mounting->scratch);
	if (r < 0)
		return r;
	/* From where the names are found: no path leads to that mount, and mount(2) takes nothing else. */
	if (fchdir(mounting->scratch.nothing_fd) < 0)
		return -errno;
	if (step->data > 0) {
		cleanup_close int tree_fd =
			clone_tree(AT_FDCWD, is_directory(place_fd) ? NOTHING_DIRECTORY : NOTHING_FILE, 0);

		return tree_fd < 0 ? tree_fd : place_tree(tree_fd, place_fd, "");
	}
	return mount(is_directory(place_fd) ? NOTHING_DIRECTORY : NOTHING_FILE, mount_path(step), NULL, MS_BIND, NULL) < 0
		       ? -errno
		       : 0;
}

/* Makes all mounts read-only and then shows again, over themselves, the trees that were kept before. */
static int make_read_only(struct mounting *mounting, const struct plan *plan, size_t index)
{
	struct mount_attributes change = {.set = MOUNT_RDONLY};
	const struct sg_mount *step = plan->mounts;
	int r = release_scratch(&mounting->scratch);

	if (r < 0)
		return r;
	if (syscall(NR_mount_setattr, AT_FDCWD, "/", TREE_RECURSIVE, &change, sizeof(change)) < 0)
		return -errno;
	for (size_t i = 0; i < index && r == 0; i++, step = next_mount(step)) {
		if (step->op != SG_MOUNT_WRITABLE || mounting->trees[i] < 0)
			continue;
		r = place_tree(mounting->trees[i], AT_FDCWD, mount_path(step));
		close_fd(&mounting->trees[i]);
	}
	return r;
}

/*
 * A device or a FIFO can be written on a read-only mount as well. It stays where it is: a terminal multiplexer finds
 * its terminals by the directory that it lies in.
 */
static int keep_writable(struct mounting *mounting, const struct sg_mount *step, size_t index)
{
	int r = mounting->scratch.sealed ? 0 : seal_copies(&mounting->scratch);
	struct stat status;

	if (r < 0)
		return r;
	if (stat(mount_path(step), &status) < 0)
		return -errno;
	if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode))
		return 0;
	mounting->trees[index] = clone_tree(AT_FDCWD, mount_path(step), TREE_RECURSIVE);
	return mounting->trees[index] < 0 ? mounting->trees[index] : 0;
}

static int do_step(struct mounting *mounting, const struct plan *plan, const struct sg_mount *step, size_t index)
{
	switch (step->op) {
	case SG_MOUNT_ROOT:
		return change_root(&mounting->scratch, mounting->trees[index]);
	case SG_MOUNT_BIND:
	case SG_MOUNT_PROC:
		return mounting->trees[index] < 0 ? 0 : show(mounting, step, mounting->trees[index]);
	case SG_MOUNT_TMPFS:
		return show_tmpfs(mounting, step);
	case SG_MOUNT_FILE:
		return show_file(mounting, step, index);
	case SG_MOUNT_HIDE:
		return hide(mounting, step);
	case SG_MOUNT_WRITABLE:
		return keep_writable(mounting, step, index);
	case SG_MOUNT_READ_ONLY:
		return make_read_only(mounting, plan, index);
	case SG_MOUNT_LINK:
		return make_missing(&mounting->scratch, mount_path(step), MISSING_LINK, mount_source(step));
	default:
		return -EINVAL;
	}
}

static void name_step(const struct sg_mount *step, char ret_subject[MOUNT_SUBJECT])
{
	const bool known = step->op < sizeof(names) / sizeof(*names) && names[step->op] != NULL;

	snprintf(ret_subject, MOUNT_SUBJECT, "%s %s", known ? names[step->op] : "step",
		 step->path > 0 ? mount_path(step) : mount_source(step));
}

/*
 * Finds what the steps show in the host's view. A proc belongs there too: in a user namespace one can only be mounted
 * where another is fully visible.
 */
static int take_sources(struct mounting *mounting, const struct plan *plan, char ret_subject[MOUNT_SUBJECT])
{
	const struct sg_mount *step = plan->mounts;

	for (size_t i = 0; i < plan->mount_count; i++, step = next_mount(step)) {
		bool is_proc = step->op == SG_MOUNT_PROC;
		int tree, r;

		if (step->op != SG_MOUNT_ROOT && step->op != SG_MOUNT_BIND && !is_proc)
			continue;
		tree = is_proc ? new_filesystem("proc", "", 0, MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC)
			       : clone_tree(AT_FDCWD, mount_source(step), TREE_RECURSIVE);
		if (tree < 0 && !((step->flags & SG_MOUNT_OPTIONAL) && is_absence(tree))) {
			snprintf(ret_subject, MOUNT_SUBJECT, "%s %s", names[step->op],
				 is_proc ? mount_path(step) : mount_source(step));
			return tree;
		}
		mounting->trees[i] = tree;
		r = tree < 0 || is_proc ? 0 : check_identity(step, tree);
		if (r < 0) {
			name_step(step, ret_subject);
			return r;
		}
	}
	return 0;
}

int make_mounts(const struct plan *plan, struct launch_page *page, char ret_subject[MOUNT_SUBJECT])
{
	static struct mounting mounting;
	const struct sg_mount *step = plan->mounts;
	int r;

	for (size_t i = 0; i < plan->mount_count; i++)
		mounting.trees[i] = -1;
	mounting.scratch = (struct scratch){.fd = -1, .nothing_fd = -1};
	mounting.page = page;
	r = take_sources(&mounting, plan, ret_subject);
	for (size_t i = 0; i < plan->mount_count && r == 0; i++, step = next_mount(step)) {
		r = do_step(&mounting, plan, step, i);
		if ((step->flags & SG_MOUNT_OPTIONAL) && is_absence(r))
			r = 0;
		if (r < 0)
			name_step(step, ret_subject);
	}
	if (r == 0) {
		r = seal_copies(&mounting.scratch);
		if (r == 0)
			r = release_scratch(&mounting.scratch);
		if (r < 0)
			snprintf(ret_subject, MOUNT_SUBJECT, "scratch");
	}
	close_scratch(&mounting.scratch);
	for (size_t i = 0; i < plan->mount_count; i++)
		close_fd(&mounting.trees[i]);
	return r;
}
