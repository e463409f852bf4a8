/* SPDX-License-Identifier: Apache-2.0 */
/* Killing everything below a subreaper, whatever it does against it. */
#ifndef SANDGATE_SWEEP_H
#define SANDGATE_SWEEP_H

#include <stdbool.h>
#include <sys/types.h>

/* Whether a child of the caller is to be left alone for now. */
typedef bool (*spare_child)(pid_t pid, void *context);

/* Sends SIGKILL to a process and its descendants, as far as they have not been orphaned. */
void kill_tree(pid_t pid);

/* Sends SIGKILL to every descendant but the spared children and what is below them. `spare` may be NULL. */
void kill_descendants(spare_child spare, void *context);

/*
 * Kills and reaps until the caller has no child left. The spared ones have `patience_ms` to end by themselves.
 * Gives up after some seconds: a process that does not die has SIGKILL pending, and runs no more.
 * The caller must be a subreaper or the first process of its PID namespace.
 */
void end_descendants(spare_child spare, void *context, unsigned int patience_ms);

#endif
