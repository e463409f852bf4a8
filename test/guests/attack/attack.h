/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that tries to get out, in as many ways as it is told in one run:
 *
 *   attack -- NAME ARGUMENT... -- NAME ARGUMENT...
 *
 * Each attempt runs in a process of its own. For each, in order, a line on stdout says its index and "ok" when it got what
 * it wanted, the name of the errno that stopped it, or "signal N".
 */
#ifndef ATTACK_H
#define ATTACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>

struct attack {
	const char *name;
	/* Arguments that it needs. */
	int arguments;
	/* Negative with errno set when it was stopped. */
	long (*run)(char **arguments);
};

/* Each ends with an entry without a name. */
extern const struct attack file_attacks[];
extern const struct attack metadata_attacks[];
extern const struct attack network_attacks[];
extern const struct attack process_attacks[];
extern const struct attack kernel_attacks[];
extern const struct attack race_attacks[];

/* A failure with this errno. */
static inline long fail(int error)
{
	errno = error;
	return -1;
}

/* Connects to HOST and PORT over TCP. The other attacks on networks use it too. */
long connect_tcp(char **arguments);

#endif
