/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the processes of a launch share: the child that becomes the program, and the helpers that it
 * leaves behind (keeper, nursery) or is born under (init). All run this program's code, none is executed.
 */
#ifndef SANDGATE_CHILD_H
#define SANDGATE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../abi.h"
#include "grants.h"
#include "ruleset.h"

#define MESSAGE_LIMIT (256u << 10) /* bytes of a message of the server */

/* Shared memory of one launch, from its start until its program is about to run. */
struct launch_page {
	uint64_t stage_ns[SG_STAGE_COUNT];
	uint32_t stage;	     /* the last one entered */
	int32_t keeper_pid;  /* as its creator sees it; set by the kernel before the keeper runs */
	int32_t nursery_pid; /* likewise */
	int32_t listener_fd; /* in the shared descriptor table, -1 when there is none */
	int32_t ruleset_fd;  /* likewise: an outer layer that was made and is to be kept */
	uint32_t open_file_count;
	int32_t open_files[SG_MAX_OPEN_FILES]; /* likewise: files that are shown to the sandbox */
	struct path_identity identities[IDENTITY_LIMIT]; /* of ruleset_fd, or of the one given in the setup */
};

/* What the warden gives to a new process. Descriptors are numbers in the table that both share. */
struct launch_setup {
	const struct sg_plan *plan; /* at the start of plan_room bytes, whole pages with nothing else */
	size_t plan_size;
	size_t plan_room;
	void *pages; /* all launches' */
	size_t pages_size;
	int memfd; /* -1: the plan is at `plan` */
	struct launch_page *page;
	int stdio[3];
	int status_fd;
	int go_fd;
	int keeper_fd;
	int kill_fd;
	int nursery_fd;
	int init_fd;
	int ruleset_fd;        /* of the outer layer as it was when last made, or -1 */
	bool keeps_ruleset;    /* one that has to be made is to be left in the page */
	bool parked;           /* the process waited for its plan and leads a session already */
	bool confines_signals; /* by the outer layer */
	bool namespaced;       /* in a PID namespace of its own */
	pid_t warden_pid;
	uid_t uid; /* the warden's */
	gid_t gid;
	struct rlimit open_files; /* as the warden was started with */
};

/* Becomes the program of the plan, or reports why not. */
_Noreturn void run_launch_child(const struct launch_setup *setup);

/* Waits for its setup and plan in one packet, then does as run_launch_child. */
_Noreturn void run_parked_child(int socket_fd, pid_t warden_pid);

/* Becomes a process of an EXEC, in a nursery. `fds`: stdio, status, go, memfd or -1. */
_Noreturn void run_exec_child(const struct sg_plan *plan, size_t size, const int fds[6]);

/* Starts the sandbox's main process, reaps what is orphaned, ends with everything below it. */
_Noreturn void run_init(const struct launch_setup *setup);

/*
 * Acts inside the sandbox's outer layer for the engine; kills the sandbox when it must end. Its memory is the
 * launching process's too until that executes its program, when *program_shares becomes 0. `grants` are the
 * program's.
 */
_Noreturn void run_keeper(const struct launch_setup *setup, struct grants *grants,
			  const volatile int32_t *program_shares);

/* Makes new processes of the sandbox for EXEC. */
_Noreturn void run_nursery(int socket_fd);

/* clone(2) as fork does it, plus `flags`. `parent_tid` may be NULL. Returns a pid, 0 in the child, or a negative errno. */
pid_t clone_process(unsigned long flags, int32_t *parent_tid);

/* From the child to the warden, one packet on the status socket; then `detail` bytes of an argument. */
enum status_kind {
	STATUS_READY = 1,
	STATUS_KEEPER = 2, /* sent by a keeper in a pid namespace, so that its pid is known outside */
	STATUS_EXECING = 3,
	STATUS_FAILED = 4,
};

struct status_message {
	uint32_t kind;
	uint32_t stage;
	int32_t error;
	uint32_t detail;
	int32_t listener_fd;
	int32_t inner_pid;
	uint64_t open_files_soft; /* READY of a launch: the limits that the warden is to set */
	uint64_t open_files_hard;
	uint64_t stage_ns[SG_STAGE_COUNT];
};

/* From an init to the warden. */
enum init_kind {
	INIT_SETTLED = 1, /* no longer shares the descriptor table */
	INIT_EXITED = 2,
	INIT_LIMIT = 3, /* a limit was reached, enum sg_limit as `status`; user_us: CPU time so far; max_rss_kib: memory */
};

struct init_message {
	uint32_t kind;
	int32_t pid; /* as the init sees it */
	int32_t status;
	uint32_t reserved;
	uint64_t user_us;
	uint64_t system_us;
	uint64_t max_rss_kib;
};

/* Reports a failed stage and exits. */
_Noreturn void fail_launch(int status_fd, uint32_t stage, int error, const char *argument, size_t length);

#endif
