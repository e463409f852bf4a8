// SPDX-License-Identifier: Apache-2.0
/* The keeper's operation on programs: held like any path, with what tells them apart. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper.h"
#include "resolve.h"

struct program_reply {
	struct sg_keeper_reply head;
	struct sg_keeper_program program;
	char bytes[PATH_MAX + SG_PROGRAM_HEAD];
};

/* What a descriptor of the program's own leads to, whose path may lead nowhere. Takes *fd. */
static int place_descriptor(int *fd, struct place *ret_place)
{
	char name[32];
	ssize_t length;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", *fd);
	length = readlink(name, ret_place->path, sizeof(ret_place->path));
	if (length < 0)
		return -errno;
	if (length == (ssize_t)sizeof(ret_place->path))
		return -ENAMETOOLONG;
	ret_place->exists = true;
	ret_place->name[0] = '\0';
	ret_place->length = (size_t)length;
	ret_place->fd = *fd;
	*fd = -1;
	return 0;
}

static int place_program(struct keeper *keeper, const struct request *request, struct place *ret_place)
{
	cleanup_close int given_fd = take_fd(request->packet, 0);
	char path[PATH_MAX];
	int r;

	if (request->head->length == 0)
		return given_fd < 0 ? -EBADF : place_descriptor(&given_fd, ret_place);
	r = copy_path_bytes(request, path);
	if (r < 0)
		return r;
	r = resolve_path(given_fd >= 0 ? given_fd : -EBADF, path, (int)request->head->flags, ret_place);
	if (r == 0)
		r = check_denied(keeper, ret_place->fd, NULL);
	if (r < 0)
		close_fd(&ret_place->fd);
	return r;
}

/* Only regular files are programs, and only they can be read without waiting for somebody. */
static uint32_t read_head(int fd, mode_t mode, char ret_head[SG_PROGRAM_HEAD])
{
	cleanup_close int opened = S_ISREG(mode) ? reopen(fd, O_RDONLY | O_NONBLOCK) : -1;
	ssize_t count = opened < 0 ? -1 : pread(opened, ret_head, SG_PROGRAM_HEAD, 0);

	return count < 0 ? 0 : (uint32_t)count;
}

void handle_program(struct keeper *keeper, struct request *request)
{
	const struct sg_keeper_request *head = request->head;
	struct program_reply message;
	struct place place;
	struct stat status;
	int r;

	r = place_program(keeper, request, &place);
	if (r == 0 && fstat(place.fd, &status) < 0) {
		r = -errno;
		close_fd(&place.fd);
	} else if (r == 0) {
		memset(&message, 0, offsetof(struct program_reply, bytes));
		message.head.device = status.st_dev;
		message.head.inode = status.st_ino;
		message.program.path = (uint32_t)place.length;
		memcpy(message.bytes, place.path, place.length);
		message.program.head = read_head(place.fd, status.st_mode, message.bytes + place.length);
		r = add_pin(&keeper->pins, head->op_id, &place);
		close_fd(&place.fd);
	}
	if (r < 0) {
		reply_result(keeper, head->op, head->op_id, r, -1);
		return;
	}
	message.head.op = head->op;
	message.head.op_id = head->op_id;
	message.head.flags = SG_KEEPER_EXISTS;
	message.head.length = (uint32_t)sizeof(message.program) + message.program.path + message.program.head;
	reply(keeper, &message, sizeof(message.head) + message.head.length, -1);
}
