// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel.h"
#include "grants.h"
#include "wire.h"

#define LEVEL_LIMIT (PATH_MAX / 2)
#define MOVE_LIMIT 8 /* how often a file may be moved while its place is looked for */

static int compare(const void *left, const void *right)
{
	const struct path_identity *a = &((const struct grant *)left)->identity;
	const struct path_identity *b = &((const struct grant *)right)->identity;

	if (a->inode != b->inode)
		return a->inode < b->inode ? -1 : 1;
	if (a->device_major != b->device_major)
		return a->device_major < b->device_major ? -1 : 1;
	if (a->device_minor != b->device_minor)
		return a->device_minor < b->device_minor ? -1 : 1;
	return 0;
}

/* Brings the grants in order and makes one of those of the same inode. */
static void sort(struct grants *grants)
{
	size_t kept = 0;

	qsort(grants->all, grants->count, sizeof(*grants->all), compare);
	for (size_t i = 0; i < grants->count; i++) {
		if (kept > 0 && compare(&grants->all[kept - 1], &grants->all[i]) == 0)
			grants->all[kept - 1].access |= grants->all[i].access;
		else
			grants->all[kept++] = grants->all[i];
	}
	grants->count = kept;
	grants->sorted = true;
}

static uint64_t rights_of(struct grants *grants, const struct path_identity *identity)
{
	const struct grant wanted = {.identity = *identity};
	const struct grant *found;

	if (!grants->sorted)
		sort(grants);
	found = bsearch(&wanted, grants->all, grants->count, sizeof(wanted), compare);
	return found == NULL ? 0 : found->access;
}

static void note_rule(struct grants *grants, const struct sg_path_rule *rule, const struct path_identity *known)
{
	struct grant *grant = &grants->all[grants->count];

	grant->access = rule->access;
	if (known != NULL)
		grant->identity = *known;
	else if (identify_rule(rule, &grant->identity) < 0)
		return;
	if (grant->identity.mount != 0)
		grants->count++;
}

int note_grants(const struct plan *plan, const struct path_identity *outer, struct grants *ret_grants)
{
	const struct sg_ruleset *ruleset = plan->inner != NULL ? plan->inner : plan->outer;
	const struct sg_path_rule *rule;

	*ret_grants = (struct grants){0};
	if (plan->head->flags & SG_PLAN_NO_LANDLOCK) {
		ret_grants->everything = true;
		return 0;
	}
	if (ruleset->path_count == 0)
		return 0;
	ret_grants->all = calloc(ruleset->path_count, sizeof(*ret_grants->all));
	if (ret_grants->all == NULL)
		return -ENOMEM;
	rule = (const void *)(ruleset + 1);
	for (uint32_t i = 0; i < ruleset->path_count; i++, rule = next_path_rule(rule))
		note_rule(ret_grants, rule, outer != NULL && plan->inner == NULL ? &outer[i] : NULL);
	return 0;
}

static bool is_same(const struct path_identity *a, const struct path_identity *b)
{
	return a->mount == b->mount && a->inode == b->inode && a->device_major == b->device_major &&
	       a->device_minor == b->device_minor;
}

/* Adds the rights of a directory and of all above it, up to the root. */
static int add_rights_above(struct grants *grants, int directory_fd, uint64_t *access)
{
	cleanup_close int fd = openat(directory_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct path_identity identity, above;
	int r;

	if (fd < 0)
		return -errno;
	r = identify_file(fd, "", &identity);
	for (unsigned int level = 0; r == 0; level++) {
		int parent_fd;

		*access |= rights_of(grants, &identity);
		if (level == LEVEL_LIMIT)
			return -ENAMETOOLONG;
		parent_fd = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (parent_fd < 0)
			return -errno;
		close(fd);
		fd = parent_fd;
		r = identify_file(fd, "", &above);
		if (r == 0 && is_same(&identity, &above))
			return 0;
		identity = above;
	}
	return r;
}

/* The directory that a file which is none lies in, by the path that the kernel has for it. */
static int open_directory_of(int fd, const struct path_identity *file, int *ret_fd)
{
	for (int moves = 0; moves < MOVE_LIMIT; moves++) {
		char link[32], path[PATH_MAX];
		struct path_identity found;
		ssize_t length;
		char *name;
		int r;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path));
		if (length < 0 || length == (ssize_t)sizeof(path))
			return length < 0 ? -errno : -ENAMETOOLONG;
		path[length] = '\0';
		if (path[0] != '/')
			return -ENOENT;
		name = strrchr(path, '/') + 1;
		{
			char first = *name;
			cleanup_close int directory_fd = -1;

			*name = '\0';
			directory_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			*name = first;
			if (directory_fd < 0)
				continue;
			r = identify_file(directory_fd, name, &found);
			if (r == 0 && is_same(&found, file)) {
				*ret_fd = directory_fd;
				directory_fd = -1;
				return 0;
			}
		}
	}
	return -ENOENT;
}

int find_rights(struct grants *grants, int fd, uint64_t *ret_access)
{
	cleanup_close int directory_fd = -1;
	struct path_identity identity;
	struct stat status;
	uint64_t access = 0;
	int r;

	if (grants->everything) {
		*ret_access = ~0ull;
		return 0;
	}
	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_nlink == 0)
		return -ENOENT;
	if (!S_ISDIR(status.st_mode)) {
		r = identify_file(fd, "", &identity);
		if (r < 0)
			return r;
		access = rights_of(grants, &identity);
		r = open_directory_of(fd, &identity, &directory_fd);
		if (r < 0)
			return r;
		fd = directory_fd;
	}
	r = add_rights_above(grants, fd, &access);
	if (r == 0)
		*ret_access = access;
	return r;
}
