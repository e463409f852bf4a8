// SPDX-License-Identifier: Apache-2.0
/*
 * Engine guest: puts itself under a filter that notifies getppid, getpgid and getsid, hands the
 * listener over on descriptor 3, waits for a byte there, and acts:
 *   once NAME                one call; prints its value, or "errno N"
 *   burst THREADS COUNT      getppid from many threads with signals arriving; prints how many returned 42
 *   mixed COUNT              one thread in getpgid while another calls getppid; prints when each ended
 *   doomed COUNT             forks children that die by SIGKILL while their call is pending, then one getppid
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../native/kernel.h"

static long thread_calls;

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

static long number_of(const char *name)
{
	if (strcmp(name, "getpgid") == 0)
		return SYS_getpgid;
	if (strcmp(name, "getsid") == 0)
		return SYS_getsid;
	return SYS_getppid;
}

static void on_signal(int signal)
{
	(void)signal;
}

static void *call_often(void *unused)
{
	long good = 0;

	(void)unused;
	for (long i = 0; i < thread_calls; i++)
		good += syscall(SYS_getppid) == 42;
	return (void *)good;
}

/*
 * Ordinary signals arrive all the while: a received call must not see them. One that still waits to be
 * received is restarted, as the handler asks.
 */
static int burst(long threads, long count)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t ids[64];
	long good = 0;

	sigaction(SIGUSR1, &action, NULL);
	thread_calls = count;
	for (long i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, call_often, NULL);
	for (long i = 0; i < 200; i++)
		pthread_kill(ids[i % threads], SIGUSR1);
	for (long i = 0; i < threads; i++) {
		void *result;

		pthread_join(ids[i], &result);
		good += (long)result;
	}
	printf("%ld\n", good);
	return 0;
}

static void *call_slow(void *unused)
{
	(void)unused;
	printf("slow %ld\n", syscall(SYS_getpgid, 0));
	fflush(stdout);
	return NULL;
}

static int mixed(long count)
{
	pthread_t slow;

	pthread_create(&slow, NULL, call_slow, NULL);
	/* The supervisor answers when it has the slow one. */
	syscall(SYS_getsid, 0);
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
	printf("fast\n");
	fflush(stdout);
	/* Tells the supervisor to let the slow one go. */
	syscall(SYS_getsid, 0);
	pthread_join(slow, NULL);
	return 0;
}

static int doomed(long count)
{
	for (long i = 0; i < count; i++) {
		pid_t child = fork();

		if (child == 0) {
			syscall(SYS_getppid);
			_exit(0);
		}
		/* No wait in between: some die queued, some received, some answered. */
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	printf("%ld\n", syscall(SYS_getppid));
	return 0;
}

int main(int argc, char **argv)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	const char *act = argc > 1 ? argv[1] : "";
	int listener;
	char go;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	if (listener < 0 || send_listener(listener) < 0 || close(listener) < 0 || read(3, &go, 1) != 1)
		return 1;
	if (strcmp(act, "once") == 0 && argc == 3) {
		long value = syscall(number_of(argv[2]), 0);

		if (value < 0)
			printf("errno %d\n", errno);
		else
			printf("%ld\n", value);
		return 0;
	}
	if (strcmp(act, "burst") == 0 && argc == 4 && atol(argv[2]) <= 64)
		return burst(atol(argv[2]), atol(argv[3]));
	if (strcmp(act, "mixed") == 0 && argc == 3)
		return mixed(atol(argv[2]));
	if (strcmp(act, "doomed") == 0 && argc == 3)
		return doomed(atol(argv[2]));
	return 2;
}
