/* SPDX-License-Identifier: Apache-2.0 */
/* Launches by id, and by the pids of their processes. */
#ifndef SANDGATE_TABLE_H
#define SANDGATE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../abi.h"
#include "child.h"

#define LAUNCH_LIMIT 16384 /* launches that are not gone */

/* The warden's own children in a launch. */
enum role {
	ROLE_MAIN, /* the program of a LAUNCH or an EXEC */
	ROLE_KEEPER,
	ROLE_NURSERY,
	ROLE_INIT,
	ROLE_COUNT,
};

struct failure {
	uint32_t stage; /* 0: none */
	int32_t error;
	uint32_t length;
	char *argument; /* owned, `length` bytes */
};

struct launch {
	bool used;
	uint32_t generation; /* grows with each use of this place */
	uint32_t next_by_id;
	uint64_t id;
	struct launch *sandbox; /* the main launch; itself for a LAUNCH */

	/* Children to be reaped, by role; 0 when there is none. */
	pid_t pids[ROLE_COUNT];
	uint32_t next_by_pid[ROLE_COUNT];

	pid_t pid;		/* of the program, in the warden's namespace; 0 before it is known */
	pid_t inner_pid;	/* as it sees itself */
	pid_t keeper_pid;	/* in the warden's namespace */
	pid_t inner_keeper_pid; /* as an init sees it; 0 before READY, and without an init */
	int pid_fd;		/* of the program, where the warden is not its parent */

	bool running; /* the process of the program was made and has not ended */
	bool has_init;
	bool namespaced;
	bool sharing;	/* the child uses the warden's descriptor table */
	bool known;	/* READY was received */
	bool ready;	/* and passed on */
	bool execing;	/* the program is about to run */
	bool started;	/* and does */
	bool dying;	/* everything of the sandbox was told to end */
	uint32_t execs; /* EXEC launches of this sandbox that have not ended */

	/* Needed until the child has its own table. */
	int stdio[3];
	int memfd;
	int status_child_fd;
	int go_fd;
	int keeper_child_fd;
	int kill_child_fd;
	int nursery_child_fd;
	struct launch_page *page;
	int parked_fds[2];	  /* by which a parked child got its plan */
	struct kept_layer *layer; /* that the child may use, or fill */

	int status_fd;
	int listener_fd; /* until READY is passed on, as keeper_fd */
	int keeper_fd;
	uint32_t open_file_count; /* likewise */
	int open_files[SG_MAX_OPEN_FILES];
	int kill_fd; /* the keeper kills the sandbox when this closes */
	int nursery_fd;
	int init_fd;
	int init_child_fd;

	uint64_t stage_ns[SG_STAGE_COUNT];
	uint32_t last_stage; /* of an EXEC, which has no page */
	struct failure failure;
};

struct table;

struct table *make_table(void);

/* A launch with all descriptors -1, or NULL when the table is full. The id must be new. */
struct launch *add_launch(struct table *table, uint64_t id);

/* Forgets a launch. It owns no descriptor and no process any more. */
void remove_launch(struct table *table, struct launch *launch);

struct launch *find_launch(struct table *table, uint64_t id);

/* By place and generation, for events that may be stale. NULL when that launch is gone. */
struct launch *launch_at(struct table *table, uint32_t place, uint32_t generation);
uint32_t place_of(const struct table *table, const struct launch *launch);

/* All launches in use: pass NULL first. */
struct launch *next_launch(struct table *table, const struct launch *launch);

void set_pid(struct table *table, struct launch *launch, enum role role, pid_t pid);
void clear_pid(struct table *table, struct launch *launch, enum role role);
struct launch *find_pid(struct table *table, pid_t pid, enum role *ret_role);

#endif
