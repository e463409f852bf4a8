// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include "connects.h"
#include "wire.h"

/*
 * A connect on loopback is done before this; what takes longer goes on by itself and is waited for elsewhere. The
 * timer repeats, since its signal may come before the call.
 */
#define BRIEF_US 200
#define EVENTS 16
#define ERESTARTSYS 512 /* the kernel's own: the call is made again, or ends with EINTR, as the signal's action says */
#define NS_PER_MS 1000000u

struct waiting_connect {
	uint64_t op_id;
	uint64_t deadline_ns; /* 0: none */
	int late;	      /* what it returns at its deadline */
	int fd;
	socklen_t length;
	struct sockaddr_storage address;
};

/* connect(2), cut short with -EINTR where it waits: the attempt goes on in the kernel. */
static int connect_briefly(int fd, const struct sockaddr *address, socklen_t length)
{
	const struct itimerval brief = {.it_interval = {.tv_usec = BRIEF_US}, .it_value = {.tv_usec = BRIEF_US}};
	const struct itimerval none = {0};
	int r;

	setitimer(ITIMER_REAL, &brief, NULL);
	r = connect(fd, address, length) < 0 ? -errno : 0;
	setitimer(ITIMER_REAL, &none, NULL);
	return r;
}

/* When a blocking connect gives up, by the socket's own send timeout. socket(7). */
static uint64_t deadline_of(int fd)
{
	struct timeval timeout = {0};
	socklen_t size = sizeof(timeout);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &size) < 0 ||
	    (timeout.tv_sec == 0 && timeout.tv_usec == 0))
		return 0;
	return monotonic_ns() + (uint64_t)timeout.tv_sec * 1000000000u + (uint64_t)timeout.tv_usec * 1000u;
}

/* Whether an earlier connect is under way. */
static bool is_connecting(int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_SYN_SENT;
}

static int add_waiting(struct connects *connects, const struct waiting_connect *wanted)
{
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = wanted->op_id};

	if (connects->poll_fd < 0) {
		connects->poll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (connects->poll_fd < 0)
			return -errno;
	}
	if (connects->count == connects->room) {
		size_t room = connects->room > 0 ? connects->room * 2 : 16;
		struct waiting_connect *more = realloc(connects->waiting, room * sizeof(*more));

		if (more == NULL)
			return -ENOMEM;
		connects->waiting = more;
		connects->room = room;
	}
	if (epoll_ctl(connects->poll_fd, EPOLL_CTL_ADD, wanted->fd, &event) < 0)
		return -errno;
	connects->waiting[connects->count++] = *wanted;
	return 0;
}

int start_connect(struct connects *connects, uint64_t op_id, int *fd, const struct sockaddr *address, socklen_t length,
		  bool *ret_waits)
{
	struct waiting_connect waiting = {.op_id = op_id, .fd = *fd, .length = length};
	int r;

	if (length > sizeof(waiting.address))
		return -EINVAL;
	waiting.deadline_ns = deadline_of(*fd);
	waiting.late = waiting.deadline_ns != 0 && is_connecting(*fd) ? -EALREADY : -EINPROGRESS;
	r = connect_briefly(*fd, address, length);
	if (r != -EINTR)
		return r;
	memcpy(&waiting.address, address, length);
	r = add_waiting(connects, &waiting);
	if (r < 0)
		return r;
	*fd = -1;
	*ret_waits = true;
	return -EINPROGRESS;
}

static void forget(struct connects *connects, struct waiting_connect *waiting)
{
	/* The socket lives on in the sandbox, so that closing alone would leave it in the set. */
	epoll_ctl(connects->poll_fd, EPOLL_CTL_DEL, waiting->fd, NULL);
	close(waiting->fd);
	*waiting = connects->waiting[--connects->count];
}

static struct waiting_connect *find(struct connects *connects, uint64_t op_id)
{
	for (size_t i = 0; i < connects->count; i++)
		if (connects->waiting[i].op_id == op_id)
			return &connects->waiting[i];
	return NULL;
}

static bool take_expired(struct connects *connects, uint64_t *ret_op_id, int *ret_result)
{
	uint64_t now = 0;

	for (size_t i = 0; i < connects->count; i++) {
		struct waiting_connect *waiting = &connects->waiting[i];

		if (waiting->deadline_ns == 0)
			continue;
		if (now == 0)
			now = monotonic_ns();
		if (waiting->deadline_ns > now)
			continue;
		*ret_op_id = waiting->op_id;
		*ret_result = waiting->late;
		forget(connects, waiting);
		return true;
	}
	return false;
}

bool take_connect(struct connects *connects, uint64_t *ret_op_id, int *ret_result)
{
	struct epoll_event events[EVENTS];
	int count = connects->count > 0 ? epoll_wait(connects->poll_fd, events, EVENTS, 0) : 0;

	for (int i = 0; i < count; i++) {
		struct waiting_connect *waiting = find(connects, events[i].data.u64);
		int r;

		if (waiting == NULL)
			continue;
		/* The second call reports how the first one ended. */
		r = connect_briefly(waiting->fd, (const struct sockaddr *)&waiting->address, waiting->length);
		if (r == -EINTR || r == -EALREADY || r == -EINPROGRESS)
			continue;
		*ret_op_id = waiting->op_id;
		*ret_result = r;
		forget(connects, waiting);
		return true;
	}
	return take_expired(connects, ret_op_id, ret_result);
}

int interrupt_connect(struct connects *connects, uint64_t op_id)
{
	struct waiting_connect *waiting = find(connects, op_id);
	int r;

	if (waiting == NULL)
		return 0;
	r = waiting->deadline_ns == 0 ? -ERESTARTSYS : -EINTR;
	forget(connects, waiting);
	return r;
}

int next_connect_ms(const struct connects *connects)
{
	uint64_t first = 0, now;

	for (size_t i = 0; i < connects->count; i++) {
		uint64_t deadline = connects->waiting[i].deadline_ns;

		if (deadline != 0 && (first == 0 || deadline < first))
			first = deadline;
	}
	if (first == 0)
		return -1;
	now = monotonic_ns();
	return first <= now ? 0 : (int)((first - now) / NS_PER_MS + 1);
}
