/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox's view has that the host does not: made in memory, never on the host. */
#ifndef SANDGATE_SCRATCH_H
#define SANDGATE_SCRATCH_H

#include <stdbool.h>
#include <sys/types.h>

#define COPY_LIMIT 64u

/* A file system in memory of which parts are shown in the sandbox's view. Starts with its descriptors -1. */
struct scratch {
	int fd; /* its root, mounted over "/", where no path finds it; -1 until it is needed */
	dev_t device;
	dev_t tmpfs; /* another file system of the sandbox's own, in which things can be made as well; 0: none */
	int copy_fds[COPY_LIMIT]; /* mounts of its directories that stand for others, until they are sealed */
	unsigned int copy_count;
	bool sealed;
	int nothing_fd; /* a mount of it in which nothing can be done, with what stands for all that is hidden; -1 */
};

/* Makes the scratch unless it is there. Returns 0 or a negative errno. */
int need_scratch(struct scratch *scratch);

/* Names in it of an empty directory and an empty file, without permissions. */
#define NOTHING_DIRECTORY "directory"
#define NOTHING_FILE "file"

/* Makes nothing_fd unless it is there. Returns 0 or a negative errno. */
int need_nothing(struct scratch *scratch);

/* Makes a tree the root, with nothing left of the old one. The working directory becomes "/". */
int change_root(struct scratch *scratch, int tree_fd);

/* Lets nothing more be made in what stands for other directories: it would be gone with the sandbox, unnoticed. */
int seal_copies(struct scratch *scratch);

/* Closes all descriptors. */
void close_scratch(struct scratch *scratch);

/* Takes the scratch itself out of the view; what is shown of it stays. The working directory becomes "/". */
int release_scratch(struct scratch *scratch);

#endif
