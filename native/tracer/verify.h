/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDGATE_VERIFY_H
#define SANDGATE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What an execve must have started. */
struct expected {
	uint64_t device;
	uint64_t inode;
	bool prefix; /* the arguments are the first of them only */
	size_t length;
	char *arguments; /* packed with their NULs */
};

/* Whether a process that stands before its first instruction is what was expected. What cannot be told is not. */
bool is_expected(pid_t pid, const struct expected *expected);

#endif
