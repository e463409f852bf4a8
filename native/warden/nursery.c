// SPDX-License-Identifier: Apache-2.0
/*
 * A process of the sandbox that never runs the sandbox's code: it is inside the inner layer and under the
 * filter, so what it clones is confined as the program is. It makes only calls that every filter has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "child.h"
#include "plan.h"
#include "wire.h"

#define NURSERY_FD 3

static uint64_t packet_bytes[MESSAGE_LIMIT / sizeof(uint64_t)];

/* Packets of the warden carry, in this order: stdio, the status socket, the go eventfd and perhaps a memfd. */
static void make_process(struct packet *packet)
{
	const struct sg_plan *plan = (const struct sg_plan *)packet_bytes;
	int status_fd = packet->fds[3];
	pid_t pid;

	if (packet->cut || packet->fd_count < 5 || !is_plan(plan, packet->size))
		return; /* its status socket closes: the warden reports it */
	pid = clone_process(CLONE_PARENT, NULL);
	if (pid == 0)
		run_exec_child(plan, packet->size, packet->fds);
	if (pid < 0) {
		struct status_message failed = {
			.kind = STATUS_FAILED, .stage = SG_STAGE_CLONE, .error = pid, .listener_fd = -1};

		(void)!write(status_fd, &failed, sizeof(failed));
	}
}

void run_nursery(int socket_fd)
{
	/* A session of its own: what the terminal signals is not for it. */
	setsid();
	if (dup3(socket_fd, NURSERY_FD, O_CLOEXEC) < 0 || dup3(0, 1, 0) < 0 || dup3(0, 2, 0) < 0 ||
	    syscall(NR_close_range, NURSERY_FD + 1u, ~0u, 0) < 0)
		_exit(126);
	for (;;) {
		struct packet packet;
		int r = receive_packet(NURSERY_FD, packet_bytes, sizeof(packet_bytes), 0, &packet);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			_exit(0);
		make_process(&packet);
		close_packet(&packet);
	}
}
