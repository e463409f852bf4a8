// SPDX-License-Identifier: Apache-2.0
/*
 * The keeper's operations on processes that a call names by number. Its layer confines signals, so that the kernel
 * itself says to it, by a signal that does nothing, whether a number names a process of the sandbox.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keeper.h"

#define IO_PRIORITY_OF_PROCESS 1 /* IOPRIO_WHO_PROCESS, ioprio_set(2) */

/* 0 when `pid`, or the group -`pid`, is of the sandbox and not the keeper itself; else -ESRCH, whatever it is. */
static int is_member(const struct keeper *keeper, pid_t pid)
{
	if (!keeper->namespaced && !keeper->confines_signals)
		return -ESRCH;
	if (pid == 0 || pid == -1 || pid == getpid() || pid == -getpid())
		return -ESRCH;
	return kill(pid, 0) < 0 ? -ESRCH : 0;
}

static int change(const struct sg_keeper_process *process, const void *value, uint32_t length)
{
	long r;

	switch (process->change) {
	case SG_PROCESS_ASK:
		return 0;
	case SG_PROCESS_AFFINITY:
		r = syscall(SYS_sched_setaffinity, process->pid, length, value);
		break;
	case SG_PROCESS_SCHEDULER:
		if (length != sizeof(struct sched_param))
			return -EINVAL;
		r = syscall(SYS_sched_setscheduler, process->pid, process->value, value);
		break;
	case SG_PROCESS_PARAMETERS:
		if (length != sizeof(struct sched_param))
			return -EINVAL;
		r = syscall(SYS_sched_setparam, process->pid, value);
		break;
	case SG_PROCESS_PRIORITY:
		r = setpriority(PRIO_PROCESS, (id_t)process->pid, process->value);
		break;
	case SG_PROCESS_IO_PRIORITY:
		r = syscall(SYS_ioprio_set, IO_PRIORITY_OF_PROCESS, process->pid, process->value);
		break;
	case SG_PROCESS_LIMIT:
		if (length != sizeof(struct rlimit))
			return -EINVAL;
		r = syscall(SYS_prlimit64, process->pid, process->value, value, NULL);
		break;
	default:
		return -EINVAL;
	}
	return r < 0 ? -errno : 0;
}

void handle_process(struct keeper *keeper, struct request *request)
{
	struct sg_keeper_process process;
	struct {
		char bytes[SG_PROCESS_VALUE_LIMIT] __attribute__((aligned(8)));
	} value;
	const uint32_t length = request->head->length - (uint32_t)sizeof(process);
	int r = -EINVAL;

	if (request->head->length >= sizeof(process) && length <= sizeof(value.bytes)) {
		memcpy(&process, request->bytes, sizeof(process));
		memcpy(value.bytes, request->bytes + sizeof(process), length);
		r = is_member(keeper, process.pid);
		if (r == 0)
			r = change(&process, value.bytes, length);
	}
	reply_result(keeper, request->head->op, request->head->op_id, r, -1);
}
