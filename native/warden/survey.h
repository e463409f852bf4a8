/* SPDX-License-Identifier: Apache-2.0 */
/* Looks through what is denied for files that other names lead to as well. */
#ifndef SANDGATE_SURVEY_H
#define SANDGATE_SURVEY_H

#include "confine.h"

/* Entries of all denied trees together: what takes a good part of a second to look through. */
#define SURVEY_LIMIT 400000u

/*
 * Whether every hard link of every file in the plan's denied trees lies in one of them: else the file could be
 * reached by another link. What this process may not look into is left out.
 * Returns 0; -ESTALE when a denied path names something else by now; -EMLINK with the file as the subject;
 * -E2BIG when there is too much to look at; or what the kernel said.
 */
int survey_denied(const struct plan *plan, struct subject *ret_subject);

#endif
