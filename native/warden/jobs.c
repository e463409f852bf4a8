// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jobs.h"
#include "outgoing.h"
#include "wire.h"

#define INTERRUPT_SIGNAL SIGUSR1 /* its handler does nothing; it ends a call with EINTR */
#define STACK_SIZE ((size_t)32 << 10)

enum slot_state {
	SLOT_FREE,
	SLOT_RUNNING,
	SLOT_FINISHED,
};

struct slot {
	struct job_pool *pool;
	struct job job;
	enum slot_state state;
	pthread_t thread;
	void *stack;
	pid_t tid; /* 0 before the thread runs */
	bool cancelled;
};

struct job_pool {
	pthread_mutex_t lock;
	int done_fd;
	unsigned int running;
	unsigned int cancelled;
	struct slot slots[JOB_LIMIT];
};

static void ignore_interrupt(int signal_number)
{
	(void)signal_number;
}

struct job_pool *make_job_pool(int done_fd)
{
	struct sigaction action = {.sa_handler = ignore_interrupt};
	struct job_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->done_fd = done_fd;
	pthread_mutex_init(&pool->lock, NULL);
	sigaction(INTERRUPT_SIGNAL, &action, NULL);
	return pool;
}

int reopen(int pinned_fd, int flags)
{
	char path[32];
	int fd;

	if (flags & O_PATH) {
		fd = fcntl(pinned_fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pinned_fd);
	/* O_NOCTTY: the keeper leads a session, whose terminal is not to be what a sandbox opens. */
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0);
	return fd < 0 ? -errno : fd;
}

static int perform(const struct job *job)
{
	switch (job->kind) {
	case JOB_OPEN:
		return reopen(job->fd, job->flags);
	case JOB_CONNECT:
		if (connect(job->fd, (const struct sockaddr *)&job->address, job->address_length) < 0)
			return -errno;
		return 0;
	case JOB_SEND:
		return send_outgoing(job->message, job->fd, 0);
	}
	return -EINVAL;
}

static void *run_slot(void *argument)
{
	struct slot *slot = argument;
	struct job_pool *pool = slot->pool;
	const uint64_t one = 1;
	bool cancelled;
	int result = -EINTR;

	pthread_mutex_lock(&pool->lock);
	slot->tid = (pid_t)syscall(SYS_gettid);
	cancelled = slot->cancelled;
	pthread_mutex_unlock(&pool->lock);

	if (!cancelled)
		result = perform(&slot->job);

	pthread_mutex_lock(&pool->lock);
	close_fd(&slot->job.fd);
	close_fd(&slot->job.pin_fd);
	slot->job.result = result;
	slot->state = SLOT_FINISHED;
	slot->tid = 0;
	pool->running--;
	if (slot->cancelled)
		pool->cancelled--;
	pthread_mutex_unlock(&pool->lock);
	(void)!write(pool->done_fd, &one, sizeof(one));
	return NULL;
}

/*
 * Threads take the interrupt only: what ends or times the keeper is for its main thread. Their stacks are our
 * own, because those of the library stay in its cache.
 */
static int start_thread(struct slot *slot)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int r;

	slot->stack =
		mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (slot->stack == MAP_FAILED)
		return -errno;
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, slot->stack, STACK_SIZE);

	sigfillset(&all);
	sigdelset(&all, INTERRUPT_SIGNAL);
	sigprocmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&slot->thread, &attributes, run_slot, slot);
	sigprocmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (r != 0)
		munmap(slot->stack, STACK_SIZE);
	return -r;
}

static struct slot *find_free(struct job_pool *pool)
{
	for (unsigned int i = 0; i < JOB_LIMIT; i++)
		if (pool->slots[i].state == SLOT_FREE)
			return &pool->slots[i];
	return NULL;
}

int start_job(struct job_pool *pool, const struct job *job)
{
	struct slot *slot;
	int r;

	pthread_mutex_lock(&pool->lock);
	slot = find_free(pool);
	if (slot != NULL) {
		*slot = (struct slot){.pool = pool, .job = *job, .state = SLOT_RUNNING};
		pool->running++;
	}
	pthread_mutex_unlock(&pool->lock);
	if (slot == NULL)
		return -EAGAIN;

	r = start_thread(slot);
	if (r < 0) {
		pthread_mutex_lock(&pool->lock);
		slot->state = SLOT_FREE;
		pool->running--;
		pthread_mutex_unlock(&pool->lock);
	}
	return r;
}

void cancel_job(struct job_pool *pool, uint64_t op_id)
{
	pthread_mutex_lock(&pool->lock);
	for (unsigned int i = 0; i < JOB_LIMIT; i++) {
		struct slot *slot = &pool->slots[i];

		if (slot->state != SLOT_RUNNING || slot->job.op_id != op_id || slot->cancelled)
			continue;
		slot->cancelled = true;
		pool->cancelled++;
	}
	pthread_mutex_unlock(&pool->lock);
}

bool press_cancelled(struct job_pool *pool)
{
	bool again;

	/* A signal that comes just before the call is lost, hence the repetition. */
	pthread_mutex_lock(&pool->lock);
	again = pool->cancelled > 0;
	for (unsigned int i = 0; again && i < JOB_LIMIT; i++) {
		struct slot *slot = &pool->slots[i];

		if (slot->state == SLOT_RUNNING && slot->cancelled && slot->tid != 0)
			syscall(SYS_tgkill, getpid(), slot->tid, INTERRUPT_SIGNAL);
	}
	pthread_mutex_unlock(&pool->lock);
	return again;
}

bool take_finished(struct job_pool *pool, struct job *ret_job)
{
	struct slot *slot = NULL;

	pthread_mutex_lock(&pool->lock);
	for (unsigned int i = 0; slot == NULL && i < JOB_LIMIT; i++)
		if (pool->slots[i].state == SLOT_FINISHED)
			slot = &pool->slots[i];
	pthread_mutex_unlock(&pool->lock);
	if (slot == NULL)
		return false;
	/* Its thread has nothing left to do but to end. */
	pthread_join(slot->thread, NULL);
	munmap(slot->stack, STACK_SIZE);
	*ret_job = slot->job;
	slot->state = SLOT_FREE;
	return true;
}
