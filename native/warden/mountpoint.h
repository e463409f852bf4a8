/* SPDX-License-Identifier: Apache-2.0 */
/* Places to mount at, where there is none. */
#ifndef SANDGATE_MOUNTPOINT_H
#define SANDGATE_MOUNTPOINT_H

#include "scratch.h"

enum missing {
	MISSING_DIRECTORY,
	MISSING_FILE,
	MISSING_LINK,
};

/*
 * Makes path if it is missing; a link leads to `target`. The directory that it, or its missing parent, belongs in is
 * replaced by one in memory that shows the same entries, as they are now, and takes no others.
 * Returns 0 or a negative errno.
 */
int make_missing(struct scratch *scratch, const char *path, enum missing kind, const char *target);

#endif
