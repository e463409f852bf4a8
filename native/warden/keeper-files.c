// SPDX-License-Identifier: Apache-2.0
/* The keeper's operations on files: paths are resolved and held, and what is held is opened. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "keeper.h"
#include "resolve.h"

#define MEMORY_DEVICES 1 /* major number of /dev/null and its like, whose open never waits */

int check_denied(struct keeper *keeper, int fd, const char *name)
{
	struct rights rights;
	int r;

	if (keeper->grants->denied_count == 0)
		return 0;
	r = name == NULL ? find_rights(keeper->grants, fd, &rights)
			 : find_rights_at(keeper->grants, fd, name, &rights);
	return r == -ENOENT ? 0 : r;
}

void handle_resolve(struct keeper *keeper, struct request *request)
{
	cleanup_close int directory_fd = take_fd(request->packet, 0);
	struct {
		struct sg_keeper_reply head;
		char path[PATH_MAX];
	} message;
	char path[PATH_MAX];
	struct place place;
	struct stat status;
	int r;

	memset(&message.head, 0, sizeof(message.head));
	message.head.op = request->head->op;
	message.head.op_id = request->head->op_id;
	r = copy_path_bytes(request, path);
	if (r == 0)
		r = resolve_path(directory_fd >= 0 ? directory_fd : -EBADF, path, (int)request->head->flags, &place);
	if (r == 0 && place.exists && fstat(place.fd, &status) == 0) {
		message.head.device = status.st_dev;
		message.head.inode = status.st_ino;
	}
	if (r == 0) {
		r = check_denied(keeper, place.fd, place.exists ? NULL : place.name);
		if (r < 0)
			close_fd(&place.fd);
	}
	if (r == 0) {
		r = add_pin(&keeper->pins, request->head->op_id, &place);
		close_fd(&place.fd);
	}
	message.head.error = r;
	if (r == 0) {
		message.head.flags = place.exists ? SG_KEEPER_EXISTS : 0;
		message.head.length = (uint32_t)place.length;
		memcpy(message.path, place.path, place.length);
	}
	reply(keeper, &message, sizeof(message.head) + message.head.length, -1);
}

/* Hands an open to a thread. Returns -EINPROGRESS, or why that was not possible; *fd is taken on success. */
static int open_in_thread(struct keeper *keeper, uint64_t op_id, int *fd, int flags)
{
	struct job job = {.kind = JOB_OPEN, .op_id = op_id, .fd = *fd, .pin_fd = -1, .flags = flags};
	int r = submit_job(keeper, &job);

	if (r < 0)
		return r;
	*fd = -1;
	return -EINPROGRESS;
}

/*
 * Opens a file that exists, by its pin. A regular file may have to wait for a lease to be broken, a FIFO for
 * its other end, a device for anything: what would wait does so in a thread.
 * Returns a descriptor, -EINPROGRESS, or another negative errno.
 */
static int open_existing(struct keeper *keeper, uint64_t op_id, int *fd, int flags)
{
	struct stat status;
	int opened;

	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	if (fstat(*fd, &status) < 0)
		return -errno;
	if ((flags & O_CREAT) && S_ISDIR(status.st_mode))
		return -EISDIR;
	if (S_ISLNK(status.st_mode) && !(flags & O_PATH))
		return -ELOOP;
	flags &= ~(O_CREAT | O_NOFOLLOW | O_EXCL);
	if (flags & (O_NONBLOCK | O_PATH))
		return reopen(*fd, flags);
	if (S_ISCHR(status.st_mode) && major(status.st_rdev) == MEMORY_DEVICES)
		return reopen(*fd, flags);
	if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
		return open_in_thread(keeper, op_id, fd, flags);

	opened = reopen(*fd, flags | O_NONBLOCK);
	if (opened == -EAGAIN)
		return open_in_thread(keeper, op_id, fd, flags);
	if (opened >= 0) {
		int now = fcntl(opened, F_GETFL);

		if (now < 0 || fcntl(opened, F_SETFL, now & ~O_NONBLOCK) < 0) {
			int error = -errno;

			close(opened);
			return error;
		}
	}
	return opened;
}

/* Makes a file without a name in a pinned directory. */
static int open_temporary(int directory_fd, int flags, mode_t mode)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", directory_fd);
	fd = open(path, (flags & ~O_NOFOLLOW) | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

/* Creates a name, or opens what appeared there since. */
static int open_new(struct keeper *keeper, uint64_t op_id, int directory_fd, const char *name, int flags,
		    mode_t mode)
{
	cleanup_close int fd =
		openat(directory_fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
	int opened = fd;
	int r;

	if (opened >= 0) {
		fd = -1;
		return opened;
	}
	if (errno != EEXIST || (flags & O_EXCL))
		return -errno;
	fd = openat(directory_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = check_denied(keeper, fd, NULL);
	return r < 0 ? r : open_existing(keeper, op_id, &fd, flags);
}

int open_pinned(struct keeper *keeper, uint64_t op_id, int *fd, const char *name, int flags, mode_t mode)
{
	int r = check_denied(keeper, *fd, name);

	if (r < 0)
		return r;
	if (name == NULL)
		return (flags & O_TMPFILE) == O_TMPFILE ? open_temporary(*fd, flags, mode)
							: open_existing(keeper, op_id, fd, flags);
	return flags & O_CREAT ? open_new(keeper, op_id, *fd, name, flags, mode) : -ENOENT;
}

void handle_open(struct keeper *keeper, struct request *request)
{
	const struct sg_keeper_request *head = request->head;
	struct pin *pin = find_pin(&keeper->pins, head->op_id);
	cleanup_close int opened = -1;
	int r;

	if (pin == NULL) {
		reply_result(keeper, head->op, head->op_id, -EBADF, -1);
		return;
	}
	umask(head->umask & 0777);
	r = open_pinned(keeper, head->op_id, &pin->fd, pin->exists ? NULL : pin->name, (int)head->flags,
			head->mode & 07777);
	release_pin(pin);
	if (r == -EINPROGRESS)
		return;
	opened = r;
	reply_result(keeper, head->op, head->op_id, r < 0 ? r : 0, opened);
}

void handle_release(struct keeper *keeper, struct request *request)
{
	struct pin *pin = find_pin(&keeper->pins, request->head->op_id);

	if (pin != NULL)
		release_pin(pin);
}
