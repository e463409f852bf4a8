// SPDX-License-Identifier: Apache-2.0
/* Describes the layouts of abi.h, for src/native/abi.ts to compare with its own at load. */
#include <stddef.h>
#include <stdio.h>

#include "../abi.h"

struct member {
	const char *structure;
	const char *name; /* "" stands for the whole structure */
	size_t offset;    /* or its size */
};

#define WHOLE(s) { #s, "", sizeof(struct s) }
#define MEMBER(s, m) { #s, #m, offsetof(struct s, m) }

static const struct member members[] = {
	WHOLE(sg_record), MEMBER(sg_record, size), MEMBER(sg_record, kind), MEMBER(sg_record, blobs),
	MEMBER(sg_record, slot), MEMBER(sg_record, error), MEMBER(sg_record, id), MEMBER(sg_record, pid),
	MEMBER(sg_record, nr), MEMBER(sg_record, arch), MEMBER(sg_record, ip), MEMBER(sg_record, args),
	MEMBER(sg_record, fds),
	WHOLE(sg_blob), MEMBER(sg_blob, length), MEMBER(sg_blob, arg), MEMBER(sg_blob, cut),
	WHOLE(sg_answer), MEMBER(sg_answer, slot), MEMBER(sg_answer, kind), MEMBER(sg_answer, id),
	MEMBER(sg_answer, value), MEMBER(sg_answer, error), MEMBER(sg_answer, flags), MEMBER(sg_answer, fd),
	MEMBER(sg_answer, fd_flags),
	WHOLE(sg_shape), MEMBER(sg_shape, kind), MEMBER(sg_shape, arg), MEMBER(sg_shape, length_arg),
	MEMBER(sg_shape, limit),
	WHOLE(sg_message), MEMBER(sg_message, type), MEMBER(sg_message, size), MEMBER(sg_message, launch_id),
	WHOLE(sg_plan), MEMBER(sg_plan, sandbox_id), MEMBER(sg_plan, magic), MEMBER(sg_plan, flags),
	MEMBER(sg_plan, uid), MEMBER(sg_plan, gid), MEMBER(sg_plan, umask), MEMBER(sg_plan, filter_flags),
	MEMBER(sg_plan, argv), MEMBER(sg_plan, envp), MEMBER(sg_plan, search), MEMBER(sg_plan, cwd),
	MEMBER(sg_plan, rlimits), MEMBER(sg_plan, outer), MEMBER(sg_plan, inner), MEMBER(sg_plan, filter),
	MEMBER(sg_plan, denied), MEMBER(sg_plan, mounts), MEMBER(sg_plan, whole),
	MEMBER(sg_plan, memory_bytes), MEMBER(sg_plan, cpu_time_us),
	MEMBER(sg_plan, max_tasks), MEMBER(sg_plan, tasks_kept),
	MEMBER(sg_plan, cpu_millis),
	WHOLE(sg_rlimit), MEMBER(sg_rlimit, resource), MEMBER(sg_rlimit, soft), MEMBER(sg_rlimit, hard),
	WHOLE(sg_ruleset), MEMBER(sg_ruleset, handled_fs), MEMBER(sg_ruleset, handled_net),
	MEMBER(sg_ruleset, scoped), MEMBER(sg_ruleset, path_count), MEMBER(sg_ruleset, port_count),
	WHOLE(sg_path_rule), MEMBER(sg_path_rule, access), MEMBER(sg_path_rule, inode),
	MEMBER(sg_path_rule, device_major), MEMBER(sg_path_rule, device_minor), MEMBER(sg_path_rule, flags),
	MEMBER(sg_path_rule, length),
	WHOLE(sg_identity), MEMBER(sg_identity, inode), MEMBER(sg_identity, device_major),
	MEMBER(sg_identity, device_minor),
	WHOLE(sg_mount), MEMBER(sg_mount, op), MEMBER(sg_mount, flags), MEMBER(sg_mount, mode), MEMBER(sg_mount, path),
	MEMBER(sg_mount, source), MEMBER(sg_mount, data),
	WHOLE(sg_port_rule), MEMBER(sg_port_rule, access), MEMBER(sg_port_rule, port),
	WHOLE(sg_signal), MEMBER(sg_signal, signal), MEMBER(sg_signal, scope),
	WHOLE(sg_hello), MEMBER(sg_hello, abi), MEMBER(sg_hello, pid),
	WHOLE(sg_ready), MEMBER(sg_ready, pid), MEMBER(sg_ready, inner_pid), MEMBER(sg_ready, keeper_pid),
	WHOLE(sg_limit_report), MEMBER(sg_limit_report, limit), MEMBER(sg_limit_report, memory_bytes),
	MEMBER(sg_limit_report, cpu_us),
	WHOLE(sg_started), MEMBER(sg_started, pid), MEMBER(sg_started, stage_ns),
	WHOLE(sg_failed), MEMBER(sg_failed, stage), MEMBER(sg_failed, error), MEMBER(sg_failed, detail),
	WHOLE(sg_exited), MEMBER(sg_exited, pid), MEMBER(sg_exited, status), MEMBER(sg_exited, user_us),
	MEMBER(sg_exited, system_us), MEMBER(sg_exited, max_rss_kib), MEMBER(sg_exited, time_ns),
	WHOLE(sg_port_range), MEMBER(sg_port_range, first), MEMBER(sg_port_range, last),
	WHOLE(sg_keeper_process), MEMBER(sg_keeper_process, change), MEMBER(sg_keeper_process, pid),
	MEMBER(sg_keeper_process, value),
	WHOLE(sg_keeper_request), MEMBER(sg_keeper_request, op), MEMBER(sg_keeper_request, flags),
	MEMBER(sg_keeper_request, op_id), MEMBER(sg_keeper_request, mode), MEMBER(sg_keeper_request, umask),
	MEMBER(sg_keeper_request, signal), MEMBER(sg_keeper_request, length),
	WHOLE(sg_keeper_act), MEMBER(sg_keeper_act, act), MEMBER(sg_keeper_act, options), MEMBER(sg_keeper_act, uid),
	MEMBER(sg_keeper_act, gid), MEMBER(sg_keeper_act, path), MEMBER(sg_keeper_act, name),
	MEMBER(sg_keeper_act, value), MEMBER(sg_keeper_act, times),
	WHOLE(sg_keeper_send), MEMBER(sg_keeper_send, flags), MEMBER(sg_keeper_send, name),
	MEMBER(sg_keeper_send, control), MEMBER(sg_keeper_send, data), MEMBER(sg_keeper_send, pin),
	WHOLE(sg_keeper_reply), MEMBER(sg_keeper_reply, op), MEMBER(sg_keeper_reply, error),
	MEMBER(sg_keeper_reply, op_id), MEMBER(sg_keeper_reply, flags), MEMBER(sg_keeper_reply, length),
	MEMBER(sg_keeper_reply, device), MEMBER(sg_keeper_reply, inode),
	WHOLE(sg_keeper_program), MEMBER(sg_keeper_program, path), MEMBER(sg_keeper_program, head),
	WHOLE(sg_watch), MEMBER(sg_watch, op), MEMBER(sg_watch, tid), MEMBER(sg_watch, op_id),
	MEMBER(sg_watch, device), MEMBER(sg_watch, inode), MEMBER(sg_watch, tgid), MEMBER(sg_watch, flags),
	MEMBER(sg_watch, length),
	WHOLE(sg_watched), MEMBER(sg_watched, op_id), MEMBER(sg_watched, event), MEMBER(sg_watched, error),
};

/*
 * Writes one "structure.member offset" line per member (a structure's own line gives its
 * size), and the ABI version first. Returns the length, or -1 when `size` is too small.
 */
int sg_layout(char *buffer, uint32_t size)
{
	int length = snprintf(buffer, size, "abi %d\n", SG_ABI_VERSION);

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		const char *dot = members[i].name[0] ? "." : "";

		if (length < 0 || (uint32_t)length >= size)
			return -1;
		length += snprintf(buffer + length, size - (uint32_t)length, "%s%s%s %zu\n", members[i].structure, dot,
				   members[i].name, members[i].offset);
	}
	return length >= 0 && (uint32_t)length < size ? length : -1;
}
