// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "parked.h"
#include "plan.h"
#include "wire.h"

#define PARKED_PLAN_LIMIT (64u << 10) /* larger ones are for a child that is made for them */
#define TOUCHED 12288u		      /* bytes of a plan that most launches need */

int park_child(struct parking *parking, pid_t warden_pid)
{
	int pair[2];
	int r = make_socket_pair(pair, false);
	pid_t pid;

	if (r < 0)
		return r;
	pid = clone_process(CLONE_FILES, NULL);
	if (pid == 0)
		run_parked_child(pair[1], warden_pid);
	if (pid < 0) {
		close_fd(&pair[0]);
		close_fd(&pair[1]);
		return pid;
	}
	parking->children[parking->count++] =
		(struct parked_child){.pid = pid, .fd = pair[0], .child_fd = pair[1]};
	return 0;
}

bool unpark_child(struct parking *parking, const struct launch_setup *setup, struct parked_child *ret_child)
{
	struct iovec parts[2] = {{.iov_base = (void *)setup, .iov_len = sizeof(*setup)},
				 {.iov_base = (void *)setup->plan, .iov_len = setup->plan_size}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	const struct parked_child *last;

	if (parking->count == 0 || setup->plan_size > PARKED_PLAN_LIMIT)
		return false;
	last = &parking->children[parking->count - 1];
	if (sendmsg(last->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return false;
	*ret_child = *last;
	parking->count--;
	return true;
}

bool forget_parked(struct parking *parking, pid_t pid)
{
	for (unsigned int i = 0; i < parking->count; i++) {
		struct parked_child *child = &parking->children[i];

		if (child->pid != pid)
			continue;
		close_fd(&child->fd);
		close_fd(&child->child_fd);
		*child = parking->children[--parking->count];
		return true;
	}
	return false;
}

void run_parked_child(int socket_fd, pid_t warden_pid)
{
	/* Not the warden's memory for messages: pages that nobody has written to are had for less. */
	static unsigned char plan[PARKED_PLAN_LIMIT] __attribute__((aligned(4096)));
	static struct launch_setup setup;
	struct iovec parts[2] = {{.iov_base = &setup, .iov_len = sizeof(setup)},
				 {.iov_base = plan, .iov_len = sizeof(plan)}};
	ssize_t got;

	/* What is sent to the warden's group is not for a program to come. */
	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != warden_pid)
		_exit(126);
	prctl(PR_SET_NAME, "sandgate-parked", 0, 0, 0);
	for (size_t at = 0; at < TOUCHED; at += 4096)
		((volatile unsigned char *)plan)[at] = 0;
	touch_plan_memory();
	do
		got = readv(socket_fd, parts, 2);
	while (got < 0 && errno == EINTR);
	if (got < (ssize_t)sizeof(setup) || setup.plan_size != (size_t)got - sizeof(setup))
		_exit(126);
	setup.plan = (const struct sg_plan *)plan;
	setup.plan_room = sizeof(plan);
	setup.parked = true;
	run_launch_child(&setup);
}
