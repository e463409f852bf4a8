/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's view of the file system, made in a mount namespace of its own. */
#ifndef SANDGATE_MOUNTS_H
#define SANDGATE_MOUNTS_H

#include <limits.h>

#include "child.h"
#include "plan.h"

#define MOUNT_SUBJECT (PATH_MAX + 32) /* the name of a step and its path */

/*
 * Carries out the steps of a plan (see enum sg_mount_op), in the caller's own mount namespace, with the right to
 * mount there. The working directory is lost. Every descriptor that it makes is closed when it returns, but those
 * that the page then has.
 * Returns 0, or a negative errno with the step and its path in ret_subject.
 */
int make_mounts(const struct plan *plan, struct launch_page *page, char ret_subject[MOUNT_SUBJECT]);

#endif
