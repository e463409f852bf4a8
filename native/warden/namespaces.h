/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces of a sandbox. Those that its init is born in are made with the init. */
#ifndef SANDGATE_NAMESPACES_H
#define SANDGATE_NAMESPACES_H

#include "child.h"
#include "confine.h"

/*
 * Maps the plan's ids, or the warden's where the plan sets none, to the warden's: all that an ordinary user may map.
 * The caller is in the user namespace that was made for the plan.
 */
int map_ids(const struct launch_setup *setup, struct subject *ret_subject);

/*
 * Moves the caller into the namespaces of its plan that it is not in yet: a mount namespace from which nothing comes
 * to the host and into which nothing comes from it, and the user namespace that an ordinary user needs for that.
 */
int enter_namespaces(const struct launch_setup *setup, const struct plan *plan, struct subject *ret_subject);

#endif
