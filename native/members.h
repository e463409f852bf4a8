/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is below a process, as /proc shows it. Below a subreaper, or the first process of a PID namespace, nobody gets
 * out: not by a new session, not by a dead parent. Threads of every process are counted, as the kernel's own limits
 * of processes do.
 */
#ifndef SANDGATE_MEMBERS_H
#define SANDGATE_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct member {
	pid_t pid;
	pid_t parent;
	char state; /* as in proc(5), stat */
	uint32_t threads;
	uint64_t start_ticks;
	uint64_t own_ticks;	 /* CPU time of its threads, the ended ones too */
	uint64_t children_ticks; /* and of the children that it waited for */
};

struct members {
	struct member *list; /* owned; grows, and is used again by the next listing */
	size_t count;
	size_t room;
};

/*
 * Lists every descendant of `root`, a pid of the namespace that /proc shows. One that is orphaned at that very
 * moment may be missed, so those of the listing before are looked at again; none is listed twice.
 * Returns 0 or a negative errno, with the list as far as it came.
 */
int list_members(pid_t root, struct members *members);

/* Tasks among them: what the root itself has yet to reap does not count. */
uint32_t count_tasks(const struct members *members, pid_t root);

#endif
