// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "table.h"

#define BUCKETS 4096u
#define NONE UINT32_MAX

/* Lists are threaded through the launches by place; a pid's element is place * ROLE_COUNT + role. */
struct table {
	uint32_t by_id[BUCKETS];
	uint32_t by_pid[BUCKETS];
	uint32_t free_places[LAUNCH_LIMIT];
	uint32_t free_count;
	uint32_t high; /* places ever used */
	struct launch launches[LAUNCH_LIMIT];
};

struct table *make_table(void)
{
	/* Only pages that are touched cost anything. */
	struct table *table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return NULL;
	madvise(table, sizeof(*table), MADV_DONTFORK); /* no child has a use for it */
	memset(table->by_id, 0xff, sizeof(table->by_id));
	memset(table->by_pid, 0xff, sizeof(table->by_pid));
	return table;
}

uint32_t place_of(const struct table *table, const struct launch *launch)
{
	return (uint32_t)(launch - table->launches);
}

struct launch *launch_at(struct table *table, uint32_t place, uint32_t generation)
{
	struct launch *launch = &table->launches[place];

	if (place >= table->high || !launch->used || launch->generation != generation)
		return NULL;
	return launch;
}

struct launch *next_launch(struct table *table, const struct launch *launch)
{
	uint32_t place = launch == NULL ? 0 : place_of(table, launch) + 1;

	for (; place < table->high; place++)
		if (table->launches[place].used)
			return &table->launches[place];
	return NULL;
}

struct launch *add_launch(struct table *table, uint64_t id)
{
	uint32_t bucket = (uint32_t)(id % BUCKETS);
	struct launch *launch;
	uint32_t generation;
	uint32_t place;

	if (table->free_count > 0)
		place = table->free_places[--table->free_count];
	else if (table->high < LAUNCH_LIMIT)
		place = table->high++;
	else
		return NULL;
	launch = &table->launches[place];
	generation = launch->generation + 1;
	memset(launch, 0, sizeof(*launch));
	launch->used = true;
	launch->generation = generation & 0xffffff;
	launch->id = id;
	launch->sandbox = launch;
	launch->pid_fd = launch->memfd = launch->status_child_fd = launch->go_fd = -1;
	launch->stdio[0] = launch->stdio[1] = launch->stdio[2] = -1;
	launch->parked_fds[0] = launch->parked_fds[1] = -1;
	launch->keeper_child_fd = launch->kill_child_fd = launch->nursery_child_fd = -1;
	launch->status_fd = launch->listener_fd = launch->keeper_fd = launch->kill_fd = -1;
	launch->nursery_fd = launch->init_fd = launch->init_child_fd = -1;
	launch->next_by_id = table->by_id[bucket];
	table->by_id[bucket] = place;
	return launch;
}

void remove_launch(struct table *table, struct launch *launch)
{
	uint32_t place = place_of(table, launch);
	uint32_t *link = &table->by_id[launch->id % BUCKETS];

	while (*link != place)
		link = &table->launches[*link].next_by_id;
	*link = launch->next_by_id;
	launch->used = false;
	table->free_places[table->free_count++] = place;
}

struct launch *find_launch(struct table *table, uint64_t id)
{
	uint32_t place = table->by_id[id % BUCKETS];

	while (place != NONE && table->launches[place].id != id)
		place = table->launches[place].next_by_id;
	return place == NONE ? NULL : &table->launches[place];
}

void set_pid(struct table *table, struct launch *launch, enum role role, pid_t pid)
{
	uint32_t *head = &table->by_pid[(uint32_t)pid % BUCKETS];

	launch->pids[role] = pid;
	launch->next_by_pid[role] = *head;
	*head = place_of(table, launch) * ROLE_COUNT + (uint32_t)role;
}

static uint32_t *next_element(struct table *table, uint32_t element)
{
	return &table->launches[element / ROLE_COUNT].next_by_pid[element % ROLE_COUNT];
}

void clear_pid(struct table *table, struct launch *launch, enum role role)
{
	uint32_t wanted = place_of(table, launch) * ROLE_COUNT + (uint32_t)role;
	uint32_t *link;

	if (launch->pids[role] == 0)
		return;
	link = &table->by_pid[(uint32_t)launch->pids[role] % BUCKETS];
	while (*link != wanted)
		link = next_element(table, *link);
	*link = launch->next_by_pid[role];
	launch->pids[role] = 0;
}

struct launch *find_pid(struct table *table, pid_t pid, enum role *ret_role)
{
	uint32_t element = table->by_pid[(uint32_t)pid % BUCKETS];

	for (; element != NONE; element = *next_element(table, element)) {
		struct launch *launch = &table->launches[element / ROLE_COUNT];

		if (launch->pids[element % ROLE_COUNT] != pid)
			continue;
		*ret_role = (enum role)(element % ROLE_COUNT);
		return launch;
	}
	return NULL;
}
