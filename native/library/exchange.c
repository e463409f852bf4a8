// SPDX-License-Identifier: Apache-2.0
/*
 * One call a turn of the engine's loop: send the answers, wait, take what is ready.
 *
 * A listener offers one of three states, and both sides of the FFI know exactly these:
 * pending (receive one, look again), empty (back to the set), terminal (the last filtered
 * task is gone: detach and close, or the loop would spin on the hang-up for ever).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../kernel.h"
#include "engine.h"

#define EVENTS_PER_TURN 64
#define CALLS_PER_LISTENER 32 /* and turn: one noisy sandbox does not starve the rest */
#define PACKETS_PER_CHANNEL 32
#define PACKET_LIMIT 65536u

enum listener_state {
	LISTENER_PENDING,
	LISTENER_EMPTY,
	LISTENER_TERMINAL,
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

struct sg_record *append_record(struct engine *engine, enum sg_record_kind kind, uint32_t slot)
{
	struct sg_record *record = (struct sg_record *)(engine->records + engine->used);

	memset(record, 0, offsetof(struct sg_record, fds));
	record->size = sizeof(*record);
	record->kind = (uint16_t)kind;
	record->slot = slot;
	engine->used += sizeof(*record);
	return record;
}

static void detach(struct engine *engine, uint32_t slot, enum sg_record_kind kind, int error)
{
	struct source *source = &engine->sources[slot];

	epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	close(source->fd);
	source->fd = -1;
	append_record(engine, kind, slot)->error = error;
}

/* ------------------------------------------------------------------- answers */

static void refuse(int listener_fd, uint64_t id)
{
	struct seccomp_notif_resp response = { .id = id, .error = -EPERM };

	ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

/* Returns 0 or -errno. A descriptor that cannot be installed is a refusal, never a `continue`. */
static int send_answer(int listener_fd, const struct sg_answer *answer)
{
	int result = 0;

	if (answer->kind == SG_ANSWER_SEND) {
		struct seccomp_notif_resp response = {
			.id = answer->id,
			.val = answer->value,
			.error = answer->error,
			.flags = answer->flags & SG_ANSWER_CONTINUE ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0,
		};

		return ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 ? -errno : 0;
	}
	if (answer->kind == SG_ANSWER_FD) {
		struct seccomp_notif_addfd addfd = {
			.id = answer->id,
			.flags = SECCOMP_ADDFD_FLAG_SEND,
			.srcfd = (uint32_t)answer->fd,
			.newfd_flags = answer->fd_flags,
		};

		if (ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) < 0) {
			result = -errno;
			refuse(listener_fd, answer->id);
		}
		close(answer->fd);
		return result;
	}
	refuse(listener_fd, answer->id);
	return -EINVAL;
}

static void send_answers(struct engine *engine, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct sg_answer *answer = &engine->answers[i];
		int fd = answer->slot < engine->source_count ? engine->sources[answer->slot].fd : -1;
		int result = fd < 0 ? -ENOENT : send_answer(fd, answer);

		if (fd < 0 && answer->kind == SG_ANSWER_FD)
			close(answer->fd);
		/* ENOENT: the caller died first, which is no failure. */
		if (result < 0 && result != -ENOENT) {
			struct sg_record *record = append_record(engine, SG_RECORD_OUTCOME, answer->slot);

			record->id = answer->id;
			record->error = result;
		}
	}
}

/* ----------------------------------------------------------------- listeners */

static enum listener_state state_of(uint32_t events)
{
	if (events & (EPOLLIN | POLLIN))
		return LISTENER_PENDING;
	if (events & (EPOLLHUP | EPOLLERR | POLLHUP | POLLERR | POLLNVAL))
		return LISTENER_TERMINAL;
	return LISTENER_EMPTY;
}

/* RECV ignores O_NONBLOCK and would sleep on an empty queue, so look first. */
static enum listener_state probe(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) <= 0 ? LISTENER_EMPTY : state_of((uint32_t)pollfd.revents);
}

/* Takes one notification into a record. Returns 0, or -errno with nothing appended. */
static int receive_call(struct engine *engine, uint32_t slot, int fd)
{
	struct seccomp_notif notif;
	struct sg_record *record;

	memset(&notif, 0, sizeof(notif));
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
		return -errno;
	record = append_record(engine, SG_RECORD_CALL, slot);
	record->id = notif.id;
	record->pid = notif.pid;
	record->nr = notif.data.nr;
	record->arch = notif.data.arch;
	record->ip = notif.data.instruction_pointer;
	memcpy(record->args, notif.data.args, sizeof(record->args));
	engine->used -= sizeof(*record);
	if (copy_arguments(engine, record, fd) == 0)
		engine->used += record->size;
	return 0;
}

static void drain_listener(struct engine *engine, uint32_t slot, uint32_t events)
{
	int fd = engine->sources[slot].fd;
	enum listener_state state = state_of(events);

	for (int budget = CALLS_PER_LISTENER; budget > 0 && has_room(engine, engine->largest_call); budget--) {
		int error;

		switch (state) {
		case LISTENER_PENDING:
			error = receive_call(engine, slot, fd);
			/* The caller died or was interrupted between the look and the receive: look again. */
			if (error < 0 && error != -EINTR && error != -ENOENT) {
				detach(engine, slot, SG_RECORD_FAULT, error);
				return;
			}
			break;
		case LISTENER_EMPTY:
			return;
		case LISTENER_TERMINAL:
			detach(engine, slot, SG_RECORD_TERMINAL, 0);
			return;
		}
		state = probe(fd);
	}
}

/* ------------------------------------------------------------------ channels */

/* Receives one packet. Returns its length, 0 at the end, or -errno. */
static int receive_packet(struct engine *engine, uint32_t slot, int fd)
{
	struct sg_record *record = (struct sg_record *)(engine->records + engine->used);
	char control[CMSG_SPACE(sizeof(int) * SG_MAX_FDS)];
	struct iovec vector = { record + 1, PACKET_LIMIT };
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	uint32_t fd_count = 0;

	if (count <= 0)
		return count < 0 ? -errno : 0;
	append_record(engine, SG_RECORD_MESSAGE, slot);
	memset(record->fds, 0xff, sizeof(record->fds));
	record->args[0] = (uint64_t)count;
	record->size += ((uint32_t)count + 7u) & ~7u;
	engine->used += ((uint32_t)count + 7u) & ~7u;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		size_t bytes = header->cmsg_len - CMSG_LEN(0);

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < bytes / sizeof(int) && fd_count < SG_MAX_FDS; i++)
			memcpy(&record->fds[fd_count++], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
	}
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		record->error = -EMSGSIZE;
	return (int)count;
}

static void drain_channel(struct engine *engine, uint32_t slot)
{
	for (int budget = PACKETS_PER_CHANNEL; budget > 0 && has_room(engine, PACKET_LIMIT); budget--) {
		int count = receive_packet(engine, slot, engine->sources[slot].fd);

		if (count == -EAGAIN)
			return;
		if (count == -EINTR)
			continue;
		if (count <= 0) {
			detach(engine, slot, SG_RECORD_TERMINAL, count);
			return;
		}
	}
}

/* ---------------------------------------------------------------------- turn */

static void take(struct engine *engine, const struct epoll_event *event)
{
	uint32_t slot = event->data.u32;
	struct source *source = &engine->sources[slot];
	uint64_t count;

	if (source->fd < 0)
		return;
	switch (source->type) {
	case SG_SOURCE_LISTENER:
		drain_listener(engine, slot, event->events);
		return;
	case SG_SOURCE_CHANNEL:
		drain_channel(engine, slot);
		return;
	case SG_SOURCE_TASK:
		if (has_room(engine, 0))
			detach(engine, slot, SG_RECORD_TASK, 0);
		return;
	case SG_SOURCE_WAKE:
		if (has_room(engine, 0) && read(source->fd, &count, sizeof(count)) == sizeof(count))
			append_record(engine, SG_RECORD_WAKE, slot);
		return;
	}
}

/*
 * Sends `answer_count` answers from the answers buffer, then waits at most `timeout_ms`
 * (-1: no bound) and takes what is ready. For the first `spin_us` it polls instead of
 * sleeping, which saves the wake-up of a halted core. Returns the bytes of records written.
 */
int sg_exchange(intptr_t handle, uint32_t answer_count, int timeout_ms, uint32_t spin_us)
{
	struct engine *engine = (struct engine *)handle;
	struct epoll_event events[EVENTS_PER_TURN];
	int count;

	engine->used = 0;
	send_answers(engine, answer_count);
	if (engine->used > 0)
		timeout_ms = 0;
	if (spin_us > 0 && timeout_ms != 0) {
		uint64_t end = now_us() + spin_us;

		do {
			count = epoll_wait(engine->epoll_fd, events, EVENTS_PER_TURN, 0);
		} while (count == 0 && now_us() < end);
		if (count == 0)
			count = epoll_wait(engine->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
	} else {
		count = epoll_wait(engine->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
	}
	if (count < 0)
		return errno == EINTR ? (int)engine->used : -errno;
	/* Begin elsewhere each turn, so that a full buffer does not always cut off the same sources. */
	for (int i = 0; i < count; i++)
		take(engine, &events[(engine->turn + (uint32_t)i) % (uint32_t)count]);
	engine->turn++;
	return (int)engine->used;
}

/* -------------------------------------------------------------- construction */

/*
 * Makes an engine over the caller's two buffers, which must outlive it. Returns a handle,
 * or a negative errno. The records buffer must hold one outcome per answer and the
 * largest record besides: 256 KiB or more.
 */
intptr_t sg_engine_create(const struct sg_answer *answers, uint8_t *records, uint32_t records_size)
{
	struct engine *engine;
	int epoll_fd;

	if (records_size < 256u * 1024u)
		return -EINVAL;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return -errno;
	engine = calloc(1, sizeof(*engine));
	if (!engine) {
		close(epoll_fd);
		return -ENOMEM;
	}
	engine->epoll_fd = epoll_fd;
	engine->answers = answers;
	engine->records = records;
	engine->records_size = records_size;
	return (intptr_t)engine;
}

/* Closes every source and frees the engine. */
void sg_engine_destroy(intptr_t handle)
{
	struct engine *engine = (struct engine *)handle;

	for (uint32_t slot = 0; slot < engine->source_count; slot++)
		if (engine->sources[slot].fd >= 0)
			close(engine->sources[slot].fd);
	close(engine->epoll_fd);
	free(engine->sources);
	free(engine);
}

/* Copies the shape table entry of one call. Returns 0 or -EINVAL. */
int sg_engine_shape(intptr_t handle, int nr, const struct sg_shape *shapes)
{
	struct engine *engine = (struct engine *)handle;
	uint32_t bytes = 0;

	if (nr < 0 || nr >= SHAPED_CALLS)
		return -EINVAL;
	for (int i = 0; i < SG_SHAPES_PER_CALL && shapes[i].kind; i++) {
		if (shapes[i].arg > 5 || shapes[i].length_arg > 5 || shapes[i].limit > 65536)
			return -EINVAL;
		bytes += (uint32_t)sizeof(struct sg_blob) + shapes[i].limit + 8;
	}
	memcpy(engine->shapes[nr], shapes, sizeof(engine->shapes[nr]));
	if (bytes > engine->largest_call)
		engine->largest_call = bytes;
	return 0;
}

/*
 * Adds a source under a free slot; the engine owns `fd` from here, also when this fails.
 * Returns 0 or -errno.
 */
int sg_engine_add(intptr_t handle, uint32_t slot, int type, int fd)
{
	struct engine *engine = (struct engine *)handle;
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = slot };
	int error;

	if (slot >= engine->source_count) {
		uint32_t count = engine->source_count ? engine->source_count : 64;
		struct source *sources;

		while (count <= slot)
			count *= 2;
		sources = realloc(engine->sources, count * sizeof(*sources));
		if (!sources) {
			close(fd);
			return -ENOMEM;
		}
		for (uint32_t i = engine->source_count; i < count; i++)
			sources[i].fd = -1;
		engine->sources = sources;
		engine->source_count = count;
	}
	if (engine->sources[slot].fd >= 0) {
		close(fd);
		return -EBUSY;
	}
	if (epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		error = -errno;
		close(fd);
		return error;
	}
	if (type == SG_SOURCE_LISTENER) /* since Linux 6.7; without it calls are only slower */
		ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	engine->sources[slot] = (struct source){ .fd = fd, .type = (enum sg_source)type };
	return 0;
}

/* Removes and closes a source. Returns 0, or -ENOENT when the slot is free. */
int sg_engine_remove(intptr_t handle, uint32_t slot)
{
	struct engine *engine = (struct engine *)handle;

	if (slot >= engine->source_count || engine->sources[slot].fd < 0)
		return -ENOENT;
	epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, engine->sources[slot].fd, NULL);
	close(engine->sources[slot].fd);
	engine->sources[slot].fd = -1;
	return 0;
}

/* Sends a packet on a channel source. Returns 0 or -errno. The caller keeps `fds`. */
int sg_send(int fd, const void *bytes, uint32_t length, const int *fds, uint32_t fd_count);

int sg_engine_send(intptr_t handle, uint32_t slot, const void *bytes, uint32_t length, const int *fds,
		   uint32_t fd_count)
{
	struct engine *engine = (struct engine *)handle;

	if (slot >= engine->source_count || engine->sources[slot].fd < 0)
		return -ENOTCONN;
	return sg_send(engine->sources[slot].fd, bytes, length, fds, fd_count);
}

int sg_engine_valid(intptr_t handle, uint32_t slot, const uint64_t *id)
{
	struct engine *engine = (struct engine *)handle;

	if (slot >= engine->source_count || engine->sources[slot].fd < 0)
		return 0;
	return ioctl(engine->sources[slot].fd, SECCOMP_IOCTL_NOTIF_ID_VALID, id) == 0;
}

/*
 * Duplicates descriptor `fd` of the thread whose call `id` waits at the listener in `slot`: its own table's, and only
 * while it waits, so that no reused thread id is mistaken for it. Fills domain, type and protocol of the socket.
 * Returns the duplicate, or -errno: -ENOTSOCK when it is none, -ENOENT when nobody waits. pidfd_getfd(2), socket(7).
 */
int sg_engine_take_socket(intptr_t handle, uint32_t slot, const uint64_t *id, uint32_t tid, int fd, int32_t *ret_kind)
{
	int pidfd = (int)syscall(NR_pidfd_open, tid, PIDFD_THREAD);
	int copy, r;

	if (pidfd < 0 && errno == EINVAL) /* before Linux 6.9 */
		pidfd = (int)syscall(NR_pidfd_open, tid, 0);
	if (pidfd < 0)
		return -errno;
	copy = (int)syscall(NR_pidfd_getfd, pidfd, fd, 0);
	r = copy < 0 ? -errno : sg_socket_kind(copy, ret_kind);
	close(pidfd);
	if (r == 0 && sg_engine_valid(handle, slot, id) != 1)
		r = -ENOENT;
	if (r == 0)
		return copy;
	if (copy >= 0)
		close(copy);
	return r;
}
