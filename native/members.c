// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "members.h"

#define MEMBER_LIMIT ((size_t)1 << 17)

static ssize_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, buffer, size - 1);
	if (got < 0)
		got = -errno;
	else
		buffer[got] = '\0';
	close(fd);
	return got;
}

/* proc(5), stat: the fields after the command, which may hold any bytes. */
static int describe(pid_t pid, struct member *ret_member)
{
	unsigned long long user, system, child_user, child_system, start;
	unsigned int threads;
	char path[48], text[1024];
	const char *end;
	ssize_t got;
	int parent;
	char state;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	got = read_file(path, text, sizeof(text));
	if (got < 0)
		return (int)got;
	end = strrchr(text, ')');
	if (end == NULL || sscanf(end + 1,
				  " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu %*d %*d %u %*d %llu",
				  &state, &parent, &user, &system, &child_user, &child_system, &threads, &start) != 8)
		return -EIO;
	*ret_member = (struct member){.pid = pid,
				      .parent = parent,
				      .state = state,
				      .threads = threads,
				      .start_ticks = start,
				      .own_ticks = user + system,
				      .children_ticks = child_user + child_system};
	return 0;
}

static int add(struct members *members, const struct member *member)
{
	if (members->count == members->room) {
		size_t room = members->room == 0 ? 64 : members->room * 2;
		struct member *list;

		if (room > MEMBER_LIMIT)
			return -E2BIG;
		list = realloc(members->list, room * sizeof(*list));
		if (list == NULL)
			return -ENOMEM;
		members->list = list;
		members->room = room;
	}
	members->list[members->count++] = *member;
	return 0;
}

/* A "children" file of proc(5): pids with a blank after each. */
static int add_listed(int children_fd, struct members *members)
{
	char buffer[4096];
	pid_t pid = 0;
	ssize_t got;

	while ((got = read(children_fd, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			struct member member;
			int r;

			if (buffer[i] >= '0' && buffer[i] <= '9') {
				pid = pid * 10 + (buffer[i] - '0');
				continue;
			}
			r = pid > 1 && describe(pid, &member) == 0 ? add(members, &member) : 0;
			pid = 0;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_children(pid_t parent, struct members *members)
{
	char path[48];
	struct dirent *entry;
	DIR *tasks;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
	tasks = opendir(path);
	if (tasks == NULL)
		return 0; /* it ended */
	while (r == 0 && (entry = readdir(tasks)) != NULL) {
		char name[48];
		int children_fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%.16s/children", entry->d_name);
		children_fd = openat(dirfd(tasks), name, O_RDONLY | O_CLOEXEC);
		if (children_fd < 0)
			continue;
		r = add_listed(children_fd, members);
		close(children_fd);
	}
	closedir(tasks);
	return r;
}

static int by_pid(const void *left, const void *right)
{
	pid_t one = ((const struct member *)left)->pid, other = ((const struct member *)right)->pid;

	return one < other ? -1 : one > other;
}

/* A process that changed its parent while it was listed was met twice. */
static void sort_once(struct members *members)
{
	size_t kept = 0;

	if (members->count == 0)
		return;
	qsort(members->list, members->count, sizeof(*members->list), by_pid);
	for (size_t i = 1; i < members->count; i++)
		if (members->list[i].pid != members->list[kept].pid)
			members->list[++kept] = members->list[i];
	members->count = kept + 1;
}

/* Walks from members[from] on, as long as there are new ones. */
static int walk(struct members *members, size_t from)
{
	int r = 0;

	for (size_t i = from; r == 0 && i < members->count; i++)
		r = add_children(members->list[i].pid, members);
	return r;
}

int list_members(pid_t root, struct members *members)
{
	struct member *before = NULL;
	size_t before_count = members->count, found;
	int r;

	if (before_count > 0) {
		before = malloc(before_count * sizeof(*before));
		if (before != NULL)
			memcpy(before, members->list, before_count * sizeof(*before));
		else
			before_count = 0;
	}
	members->count = 0;
	r = add_children(root, members);
	if (r == 0)
		r = walk(members, 0);
	sort_once(members);
	found = members->count;
	for (size_t i = 0; r == 0 && i < before_count; i++) {
		struct member member;

		if (bsearch(&before[i], members->list, found, sizeof(*before), by_pid) != NULL)
			continue;
		if (describe(before[i].pid, &member) == 0 && member.start_ticks == before[i].start_ticks)
			r = add(members, &member);
	}
	free(before);
	if (r == 0 && members->count > found) {
		r = walk(members, found);
		sort_once(members);
	}
	return r;
}

uint32_t count_tasks(const struct members *members, pid_t root)
{
	uint32_t count = 0;

	for (size_t i = 0; i < members->count; i++) {
		const struct member *member = &members->list[i];
		bool ended = member->state == 'Z' || member->state == 'X';

		if (!(ended && member->parent == root))
			count += member->threads > 0 ? member->threads : 1;
	}
	return count;
}
