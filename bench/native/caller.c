// SPDX-License-Identifier: Apache-2.0
/*
 * Bench guest: installs a filter that notifies one call, hands the listener over on
 * descriptor 3, makes the call `count` times and prints nanoseconds per call.
 * usage: caller registers|path COUNT CPU   (CPU -1: not pinned)
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../native/kernel.h"

static int send_listener(int listener)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec vector = { &byte, 1 };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &listener, sizeof(int));
	return sendmsg(3, &message, 0) == 1 ? 0 : -1;
}

static void call(int path)
{
	if (path)
		syscall(SYS_access, "/etc/hostname", 0);
	else
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	int path = argc > 1 && strcmp(argv[1], "path") == 0;
	long count = argc > 2 ? atol(argv[2]) : 10000;
	int cpu = argc > 3 ? atoi(argv[3]) : -1;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, path ? SYS_access : SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	struct timespec from, to;
	int listener;
	char go;

	if (cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	if (listener < 0 || send_listener(listener) < 0 || close(listener) < 0 || read(3, &go, 1) != 1)
		return 1;
	for (long i = 0; i < count / 10; i++)
		call(path);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < count; i++)
		call(path);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.1f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)count);
	return 0;
}
