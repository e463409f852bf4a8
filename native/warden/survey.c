// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../kernel.h"
#include "survey.h"
#include "wire.h"

/* Depth at which descriptors, one a level, would run out. */
#define DEPTH_LIMIT 200

struct key {
	dev_t device;
	ino_t inode;
};

/* A directory that was looked through, or a file with several links. */
struct item {
	struct key key;
	nlink_t links; /* 0: a directory */
	nlink_t found;
	char *path; /* of a file: the first link that was found */
};

/* Open addressing; `room` is a power of two, or 0. An unused place has inode 0. */
struct items {
	struct item *all;
	size_t room;
	size_t count;
};

/* A denied file that was counted as a link. */
struct file_link {
	struct file_link *next;
	struct key directory;
	char name[];
};

struct survey {
	struct items items;
	struct file_link *links;
	unsigned int entries;
	char path[PATH_MAX]; /* of what is being looked at, for the subject */
};

static struct item *place_of(struct items *items, struct key key)
{
	uint64_t hash = (key.inode ^ key.device * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
	size_t at = (size_t)(hash >> 17) & (items->room - 1);

	while (items->all[at].key.inode != 0 &&
	       (items->all[at].key.inode != key.inode || items->all[at].key.device != key.device))
		at = (at + 1) & (items->room - 1);
	return &items->all[at];
}

static int grow(struct items *items)
{
	struct items larger = {.room = items->room == 0 ? 1024 : items->room * 2, .count = items->count};

	larger.all = calloc(larger.room, sizeof(*larger.all));
	if (larger.all == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < items->room; i++)
		if (items->all[i].key.inode != 0)
			*place_of(&larger, items->all[i].key) = items->all[i];
	free(items->all);
	*items = larger;
	return 0;
}

/* The item of a key, new with `links` when there was none: then *ret_new is true. */
static int find_item(struct items *items, struct key key, nlink_t links, struct item **ret_item, bool *ret_new)
{
	struct item *item;

	if (items->count * 2 >= items->room) {
		int r = grow(items);

		if (r < 0)
			return r;
	}
	item = place_of(items, key);
	*ret_new = item->key.inode == 0;
	if (*ret_new) {
		*item = (struct item){.key = key, .links = links};
		items->count++;
	}
	*ret_item = item;
	return 0;
}

/* Notes a file with several links; `counts` when survey->path is one of them that was not counted before. */
static int add_link(struct survey *survey, const struct stat *status, bool counts)
{
	const struct key key = {status->st_dev, status->st_ino};
	struct item *item;
	bool is_new;
	int r;

	if (status->st_nlink < 2)
		return 0;
	r = find_item(&survey->items, key, status->st_nlink, &item, &is_new);
	if (r < 0)
		return r;
	if (is_new) {
		item->path = strdup(survey->path);
		if (item->path == NULL)
			return -ENOMEM;
	}
	item->found += counts;
	return 0;
}

static bool is_closed_to_us(int error)
{
	return error == EACCES || error == EPERM;
}

/* Looks through a directory unless that was done before. `directory_fd` is closed. */
static int look_through(struct survey *survey, int directory_fd, unsigned int depth)
{
	const size_t length = strlen(survey->path);
	struct stat status;
	struct dirent *entry;
	struct item *item;
	bool is_new;
	DIR *directory;
	int r;

	if (fstat(directory_fd, &status) < 0) {
		r = -errno;
		close(directory_fd);
		return r;
	}
	r = find_item(&survey->items, (struct key){status.st_dev, status.st_ino}, 0, &item, &is_new);
	if (r == 0 && depth >= DEPTH_LIMIT)
		r = -E2BIG;
	if (r < 0 || !is_new) {
		close(directory_fd);
		return r;
	}
	directory = fdopendir(directory_fd);
	if (directory == NULL) {
		close(directory_fd);
		return -ENOMEM;
	}
	while (r == 0 && (errno = 0, entry = readdir(directory)) != NULL) {
		const dev_t device = status.st_dev;
		struct stat found;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (++survey->entries > SURVEY_LIMIT)
			r = -E2BIG;
		else if (length + 1 + strlen(entry->d_name) >= sizeof(survey->path))
			r = -ENAMETOOLONG;
		else if (fstatat(dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
			r = errno == ENOENT || is_closed_to_us(errno) ? 0 : -errno;
		else if (found.st_dev != device)
			continue; /* another file system, which is denied by its own root */
		else {
			survey->path[length] = '/';
			strcpy(survey->path + length + 1, entry->d_name);
			if (S_ISDIR(found.st_mode)) {
				int fd = openat(dirfd(directory), entry->d_name,
						O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

				if (fd >= 0)
					r = look_through(survey, fd, depth + 1);
				else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP &&
					 !is_closed_to_us(errno))
					r = -errno;
			} else {
				r = add_link(survey, &found, true);
			}
			if (r == 0)
				survey->path[length] = '\0';
		}
	}
	if (r == 0 && errno != 0)
		r = -errno;
	closedir(directory);
	return r;
}

static int mount_of(int fd, uint64_t *ret_mount)
{
	struct statx status;

	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) < 0)
		return -errno;
	*ret_mount = status.stx_mnt_id;
	return 0;
}

/* Whether survey->path, in that directory, is a link that was counted already. Remembers that it is now. */
static int was_counted(struct survey *survey, const struct stat *directory, bool *ret_was)
{
	const struct key key = {directory->st_dev, directory->st_ino};
	const char *name = strrchr(survey->path, '/') + 1;
	struct file_link *link;

	*ret_was = true;
	if (survey->items.room != 0 && place_of(&survey->items, key)->key.inode != 0)
		return 0;
	for (link = survey->links; link != NULL; link = link->next)
		if (link->directory.device == key.device && link->directory.inode == key.inode &&
		    strcmp(link->name, name) == 0)
			return 0;
	link = malloc(sizeof(*link) + strlen(name) + 1);
	if (link == NULL)
		return -ENOMEM;
	link->directory = key;
	link->next = survey->links;
	strcpy(link->name, name);
	survey->links = link;
	*ret_was = false;
	return 0;
}

/* A denied file is itself a link, unless a mount shows it where it is. */
static int look_at_file(struct survey *survey, int file_fd, const struct stat *status)
{
	const char *slash = strrchr(survey->path, '/');
	cleanup_close int directory_fd = -1;
	char directory[PATH_MAX];
	struct stat parent;
	uint64_t mounts[2] = {0};
	bool was;
	int r;

	if (status->st_nlink < 2)
		return 0;
	snprintf(directory, sizeof(directory), "%.*s/", (int)(slash - survey->path), survey->path);
	directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0 || fstat(directory_fd, &parent) < 0)
		return -errno;
	r = mount_of(directory_fd, &mounts[0]);
	if (r == 0)
		r = mount_of(file_fd, &mounts[1]);
	if (r == 0)
		r = was_counted(survey, &parent, &was);
	return r < 0 ? r : add_link(survey, status, !was && mounts[0] == mounts[1]);
}

static int look_at(struct survey *survey, const struct sg_path_rule *rule, bool directories)
{
	cleanup_close int fd = -1;
	struct stat status;
	int directory_fd;

	memcpy(survey->path, rule + 1, rule->length);
	survey->path[rule->length] = '\0';
	fd = open(survey->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_ino != rule->inode || major(status.st_dev) != rule->device_major ||
	    minor(status.st_dev) != rule->device_minor)
		return -ESTALE;
	if (S_ISDIR(status.st_mode) != directories)
		return 0;
	if (!directories)
		return look_at_file(survey, fd, &status);
	directory_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0)
		return is_closed_to_us(errno) ? 0 : -errno;
	if (strcmp(survey->path, "/") == 0)
		survey->path[0] = '\0';
	return look_through(survey, directory_fd, 0);
}

/* The first file that has links elsewhere, or NULL. */
static const struct item *elsewhere(const struct items *items)
{
	for (size_t i = 0; i < items->room; i++)
		if (items->all[i].key.inode != 0 && items->all[i].found < items->all[i].links)
			return &items->all[i];
	return NULL;
}

/* The keeper goes on with this memory. */
static void forget(struct survey *survey)
{
	for (size_t i = 0; i < survey->items.room; i++)
		free(survey->items.all[i].path);
	free(survey->items.all);
	while (survey->links != NULL) {
		struct file_link *link = survey->links;

		survey->links = link->next;
		free(link);
	}
	*survey = (struct survey){0};
}

int survey_denied(const struct plan *plan, struct subject *ret_subject)
{
	static struct survey survey;
	const struct item *item;

	/* Directories first: a denied file in one of them is then known to be counted. */
	for (int directories = 1; directories >= 0; directories--) {
		const struct sg_path_rule *rule = plan->denied;

		for (size_t i = 0; i < plan->denied_count; i++, rule = next_path_rule(rule)) {
			int r = look_at(&survey, rule, directories);

			if (r < 0) {
				ret_subject->bytes = survey.path;
				ret_subject->length = strlen(survey.path);
				return r;
			}
		}
	}
	item = elsewhere(&survey.items);
	if (item == NULL) {
		forget(&survey);
		return 0;
	}
	ret_subject->bytes = item->path;
	ret_subject->length = strlen(item->path);
	return -EMLINK;
}
