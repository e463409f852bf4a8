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

static bool is_same_inode(const struct path_identity *a, const struct path_identity *b)
{
	return a->inode == b->inode && a->device_major == b->device_major && a->device_minor == b->device_minor;
}

static bool is_same(const struct path_identity *a, const struct path_identity *b)
{
	return a->mount == b->mount && is_same_inode(a, b);
}

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
		const struct grant *next = &grants->all[i];
		struct grant *last = kept > 0 ? &grants->all[kept - 1] : NULL;

		if (last != NULL && compare(last, next) == 0) {
			last->rights.kernel |= next->rights.kernel;
			last->rights.whole |= next->rights.whole;
			last->denied |= next->denied;
			last->leads |= next->leads;
		} else {
			grants->all[kept++] = *next;
		}
	}
	grants->count = kept;
	grants->sorted = true;
}

static const struct grant *find_grant(struct grants *grants, const struct path_identity *identity)
{
	const struct grant wanted = {.identity = *identity};

	if (!grants->sorted)
		sort(grants);
	return grants->count == 0 ? NULL
				  : bsearch(&wanted, grants->all, grants->count, sizeof(wanted), compare);
}

/* What was there was replaced: whatever it is now is denied as well. */
static bool is_at_denied_place(const struct grants *grants, const struct path_identity *identity)
{
	for (size_t i = 0; i < grants->place_count; i++)
		if (grants->places[i].now.mount != 0 && is_same_inode(&grants->places[i].now, identity))
			return true;
	return false;
}

static void look_at_places(struct grants *grants)
{
	for (size_t i = 0; i < grants->place_count; i++) {
		struct denied_place *place = &grants->places[i];

		if (identify_file(place->directory_fd, place->name, &place->now) < 0)
			place->now = (struct path_identity){0};
	}
}

/* Adds what an inode on the way up gives. Returns 0, or -EACCES when it is denied. */
static int add_rights(struct grants *grants, const struct path_identity *identity, struct rights *rights)
{
	const struct grant *grant = find_grant(grants, identity);

	if ((grant != NULL && grant->denied) || is_at_denied_place(grants, identity))
		return -EACCES;
	if (grant != NULL) {
		rights->kernel |= grant->rights.kernel;
		rights->whole |= grant->rights.whole;
	}
	return 0;
}

/* Room for `count` more grants. */
static int make_room(struct grants *grants, size_t count)
{
	struct grant *all = realloc(grants->all, (grants->count + count) * sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	grants->all = all;
	return 0;
}

static int note_rules(struct grants *grants, const struct sg_path_rule *rule, size_t count,
		      const struct path_identity *known, bool of_kernel, bool of_whole)
{
	if (count == 0)
		return 0;
	if (make_room(grants, count) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++, rule = next_path_rule(rule)) {
		struct grant *grant = &grants->all[grants->count];

		*grant = (struct grant){.rights = {.kernel = of_kernel ? rule->access : 0,
						   .whole = of_whole ? rule->access : 0}};
		if (known != NULL)
			grant->identity = known[i];
		else if (identify_rule(rule, &grant->identity) < 0)
			continue;
		if (grant->identity.mount != 0)
			grants->count++;
	}
	return 0;
}

int note_grants(const struct plan *plan, const struct path_identity *outer, struct grants *ret_grants)
{
	const struct sg_ruleset *layer = plan->inner != NULL ? plan->inner : plan->outer;
	int r;

	/* Without `whole` the kernel keeps even the keeper from what is denied. */
	*ret_grants = (struct grants){.denied = plan->denied,
				      .denied_count = plan->whole_count > 0 ? plan->denied_count : 0};
	if (plan->head->flags & SG_PLAN_NO_LANDLOCK) {
		ret_grants->everything = true;
		return 0;
	}
	r = note_rules(ret_grants, (const void *)(layer + 1), layer->path_count, plan->inner == NULL ? outer : NULL,
		       true, plan->whole_count == 0);
	return r < 0 ? r : note_rules(ret_grants, plan->whole, plan->whole_count, NULL, false, true);
}

/* Marks the directories above a path. What cannot be reached cannot be moved either. */
static int mark_leading(struct grants *grants, char *path)
{
	for (char *slash = path; slash != NULL; slash = strchr(slash + 1, '/')) {
		const char next = slash[1];
		struct path_identity identity;

		slash[1] = '\0';
		if (identify_file(AT_FDCWD, path, &identity) == 0) {
			if (make_room(grants, 1) < 0)
				return -ENOMEM;
			grants->all[grants->count++] = (struct grant){.identity = identity, .leads = true};
		}
		slash[1] = next;
	}
	return 0;
}

static int note_place(struct grants *grants, const struct sg_path_rule *rule)
{
	const struct path_identity identity = {.mount = 1,
					       .inode = rule->inode,
					       .device_major = rule->device_major,
					       .device_minor = rule->device_minor};
	struct denied_place *place = &grants->places[grants->place_count];
	char path[PATH_MAX];
	char *slash;
	int r;

	if (make_room(grants, 1) < 0)
		return -ENOMEM;
	grants->all[grants->count++] = (struct grant){.identity = identity, .denied = true};
	memcpy(path, rule + 1, rule->length);
	path[rule->length] = '\0';
	r = mark_leading(grants, path);
	if (r < 0)
		return r;
	slash = strrchr(path, '/');
	place->name = strdup(slash + 1);
	if (place->name == NULL)
		return -ENOMEM;
	slash[1] = '\0';
	place->directory_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place->directory_fd < 0)
		return errno == EMFILE || errno == ENFILE ? -errno : 0;
	place->file_fd = openat(place->directory_fd, place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	r = identify_file(place->directory_fd, "", &place->directory);
	if (r == 0)
		grants->place_count++;
	return r;
}

int note_denied(struct grants *grants)
{
	const struct sg_path_rule *rule = grants->denied;
	int r = 0;

	if (grants->denied_count == 0)
		return 0;
	grants->places = calloc(grants->denied_count, sizeof(*grants->places));
	if (grants->places == NULL)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < grants->denied_count; i++, rule = next_path_rule(rule))
		r = note_place(grants, rule);
	grants->sorted = false;
	return r;
}

/* Adds the rights of a directory and of all above it, up to the root. */
static int add_rights_above(struct grants *grants, int directory_fd, struct rights *rights)
{
	cleanup_close int fd = openat(directory_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct path_identity identity, above;
	int r;

	if (fd < 0)
		return -errno;
	r = identify_file(fd, "", &identity);
	for (unsigned int level = 0; r == 0; level++) {
		int parent_fd;

		r = add_rights(grants, &identity, rights);
		if (r < 0)
			return r;
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
		cleanup_close int directory_fd = -1;
		char link[32], path[PATH_MAX];
		struct path_identity found;
		ssize_t length;
		char *name;
		char first;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path));
		if (length < 0 || length == (ssize_t)sizeof(path))
			return length < 0 ? -errno : -ENAMETOOLONG;
		path[length] = '\0';
		if (path[0] != '/')
			return -ENOENT;
		name = strrchr(path, '/') + 1;
		first = *name;
		*name = '\0';
		directory_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		*name = first;
		if (directory_fd < 0 || identify_file(directory_fd, name, &found) < 0 || !is_same(&found, file))
			continue;
		*ret_fd = directory_fd;
		directory_fd = -1;
		return 0;
	}
	return -ENOENT;
}

int find_rights(struct grants *grants, int fd, struct rights *ret_rights)
{
	cleanup_close int directory_fd = -1;
	struct path_identity identity;
	struct rights rights = {0};
	struct stat status;
	int r;

	if (grants->everything) {
		*ret_rights = (struct rights){.kernel = ~0ull, .whole = ~0ull};
		return 0;
	}
	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_nlink == 0)
		return -ENOENT;
	look_at_places(grants);
	if (!S_ISDIR(status.st_mode)) {
		r = identify_file(fd, "", &identity);
		if (r == 0)
			r = add_rights(grants, &identity, &rights);
		if (r == 0)
			r = open_directory_of(fd, &identity, &directory_fd);
		if (r < 0)
			return r;
		fd = directory_fd;
	}
	r = add_rights_above(grants, fd, &rights);
	if (r == 0)
		*ret_rights = rights;
	return r;
}

int find_rights_at(struct grants *grants, int directory_fd, const char *name, struct rights *ret_rights)
{
	struct path_identity directory, file;
	size_t length = strcspn(name, "/");
	int r = identify_file(directory_fd, "", &directory);

	if (r < 0)
		return r;
	for (size_t i = 0; i < grants->place_count; i++) {
		const struct denied_place *place = &grants->places[i];

		if (is_same_inode(&place->directory, &directory) && strlen(place->name) == length &&
		    memcmp(place->name, name, length) == 0)
			return -EACCES;
	}
	r = find_rights(grants, directory_fd, ret_rights);
	if (r == 0 && identify_file(directory_fd, name, &file) == 0)
		r = add_rights(grants, &file, &(struct rights){0});
	return r;
}

bool leads_to_denied(struct grants *grants, int fd)
{
	struct path_identity identity;
	const struct grant *grant;

	if (identify_file(fd, "", &identity) < 0)
		return true;
	grant = find_grant(grants, &identity);
	return grant != NULL && (grant->leads || grant->denied);
}
