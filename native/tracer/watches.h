/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that are watched through an execve. The kernel reads path and arguments again after they were
 * judged, and other tasks may write that memory or exchange the file meanwhile. So what the kernel took is
 * looked at instead, in the one moment when nobody can change it any more: the new program stands before its
 * first instruction, alone in new memory. What is not what was judged is killed there.
 */
#ifndef SANDGATE_WATCHES_H
#define SANDGATE_WATCHES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../abi.h"

struct watch;

struct watches {
	struct watch *first;
	int engine_fd; /* where events go; -1 when nobody hears them any more */
};

/* Takes a request of the engine, with `length` bytes of arguments. */
void take_request(struct watches *watches, const struct sg_watch *request, const char *arguments);

/* Takes what waitpid(2) said of a thread that is, or was, watched. */
void take_status(struct watches *watches, pid_t pid, int status);

#endif
