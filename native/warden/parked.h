/* SPDX-License-Identifier: Apache-2.0 */
/* Children that were made while there was time: each waits for the launch that it will become. */
#ifndef SANDGATE_PARKED_H
#define SANDGATE_PARKED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "child.h"

#define PARKED_LIMIT 4u

struct parked_child {
	pid_t pid;
	int fd;	      /* its setup and plan are sent here */
	int child_fd; /* and read here, in the descriptor table that both share */
};

struct parking {
	struct parked_child children[PARKED_LIMIT];
	unsigned int count;
	bool refused; /* no process could be made: wait for one to end */
};

/* Makes one more child. Returns 0 or a negative errno. */
int park_child(struct parking *parking, pid_t warden_pid);

/* Gives a setup to a child, which is then the caller's with its two descriptors. False when there is none to take it. */
bool unpark_child(struct parking *parking, const struct launch_setup *setup, struct parked_child *ret_child);

/* Forgets a child that ended. False when it was none of these. */
bool forget_parked(struct parking *parking, pid_t pid);

#endif
