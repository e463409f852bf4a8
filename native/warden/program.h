/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDGATE_PROGRAM_H
#define SANDGATE_PROGRAM_H

#include <limits.h>

#include "plan.h"

/*
 * Finds the file that execvp(3) would run for argv[0], relative to the working directory, so that one
 * execve of it is enough. Returns 0, or a negative errno as execvp would give it.
 */
int find_program(const struct plan *plan, char ret_path[PATH_MAX]);

#endif
