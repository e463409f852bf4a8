// SPDX-License-Identifier: Apache-2.0
/*
 * Executes other programs, in ways that are hard to follow.
 *   race KIND ONE OTHER COUNT    executes COUNT times while ONE and OTHER are exchanged, and says what ran:
 *      thread      a thread exchanges the path
 *      shared      another process exchanges it, in memory that both share
 *      argument    a thread exchanges an argument; ONE and OTHER are words of equal length for `said`
 *      vector      a thread exchanges the pointer to it
 *      link        another process turns a link in the current directory
 *      directory   a thread changes the current directory, ONE or OTHER, in which `program` is executed
 *      descriptor  a thread exchanges the descriptor that fexecve executes
 *   said WORD                    ends with 10 if the word is "good", with 11 if it is "evil"
 *   spawn HOW THREADS COUNT PROGRAM   spawns COUNT programs in each thread while signals arrive; HOW: fork, vfork, spawn
 *   storm THREADS COUNT BROKEN PROGRAM   all threads of a process execute PROGRAM at once, COUNT times, after BROKEN
 *   fexecve PROGRAM, execveat PROGRAM    by a descriptor, by a path from a descriptor
 * A program that ran has ended with 10 or 11; see allowed.c and forbidden.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINK "turned"

extern char **environ;

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerrorname_np(errno));
	return 1;
}

/* What races, and the two things that it is exchanged for. */
static struct {
	const char *values[2];
	volatile char *text; /* the path, or the argument */
	char *volatile vector[4];
	int fds[3];
} race;

static void *flip_text(void *unused)
{
	size_t length = strlen(race.values[0]) + 1;

	(void)unused;
	/* Paths and words are of equal length: each byte of a mixed one is of one of them. */
	for (int turn = 0;; turn ^= 1)
		for (size_t i = 0; i < length; i++)
			race.text[i] = race.values[turn][i];
	return NULL;
}

static void *flip_vector(void *unused)
{
	(void)unused;
	for (int turn = 0;; turn ^= 1)
		race.vector[2] = (char *)race.values[turn];
	return NULL;
}

static void *flip_directory(void *unused)
{
	(void)unused;
	for (int turn = 0;; turn ^= 1)
		if (chdir(race.values[turn]) < 0)
			return NULL;
}

static void *flip_descriptor(void *unused)
{
	(void)unused;
	for (int turn = 0;; turn ^= 1)
		dup3(race.fds[turn], race.fds[2], O_CLOEXEC);
	return NULL;
}

static _Noreturn void flip_link(void)
{
	char name[32];

	snprintf(name, sizeof(name), "new.%d", (int)getpid());
	for (int turn = 0;; turn ^= 1) {
		if (symlink(race.values[turn], name) < 0 || rename(name, LINK) < 0)
			_exit(1);
	}
}

static void start_thread(void *(*run)(void *))
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, NULL);
	if (errno != 0)
		_exit(99);
	for (int i = 0; i < 3; i++)
		sched_yield();
}

static _Noreturn void execute_racing(const char *kind)
{
	char *plain[] = { "program", NULL };

	if (strcmp(kind, "thread") == 0) {
		start_thread(flip_text);
		execv((char *)race.text, plain);
	} else if (strcmp(kind, "shared") == 0) {
		execv((char *)race.text, plain);
	} else if (strcmp(kind, "argument") == 0 || strcmp(kind, "vector") == 0) {
		race.vector[0] = "execute";
		race.vector[1] = "said";
		race.vector[2] = (char *)race.text;
		start_thread(kind[0] == 'a' ? flip_text : flip_vector);
		execv("/proc/self/exe", (char **)race.vector);
	} else if (strcmp(kind, "link") == 0) {
		execv("./" LINK, plain);
	} else if (strcmp(kind, "directory") == 0) {
		start_thread(flip_directory);
		execv("./program", plain);
	} else if (strcmp(kind, "descriptor") == 0) {
		start_thread(flip_descriptor);
		fexecve(race.fds[2], plain, environ);
	} else {
		_exit(98);
	}
	_exit(errno == EPERM ? 12 : errno == EACCES ? 13 : 14);
}

static int run_race(char **arguments)
{
	const char *kind = arguments[0];
	long count = strtol(arguments[3], NULL, 10), ran[2] = { 0 }, refused = 0, killed = 0, other = 0;
	pid_t flipper = 0;

	race.values[0] = arguments[1];
	race.values[1] = arguments[2];
	race.text = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_ANONYMOUS | (kind[0] == 's' ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	strcpy((char *)race.text, race.values[0]);
	if (kind[0] == 'd') {
		for (int i = 0; i < 2; i++)
			race.fds[i] = open(race.values[i], O_RDONLY | O_CLOEXEC);
		race.fds[2] = fcntl(race.fds[0], F_DUPFD_CLOEXEC, 10);
	}
	if (strcmp(kind, "link") == 0 && symlink(race.values[0], LINK) < 0)
		return fail("symlink");
	if (strcmp(kind, "link") == 0 || strcmp(kind, "shared") == 0) {
		flipper = fork();
		if (flipper == 0 && kind[0] == 'l')
			flip_link();
		else if (flipper == 0)
			flip_text(NULL);
	}
	for (long i = 0; i < count; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			execute_racing(kind);
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			return fail("fork");
		if (WIFSIGNALED(status))
			killed += WTERMSIG(status) == SIGKILL;
		else if (WEXITSTATUS(status) == 10 || WEXITSTATUS(status) == 11)
			ran[WEXITSTATUS(status) - 10]++;
		else if (WEXITSTATUS(status) == 12)
			refused++;
		else
			other++;
	}
	if (flipper > 0) {
		kill(flipper, SIGKILL);
		waitpid(flipper, NULL, 0);
	}
	printf("allowed %ld forbidden %ld refused %ld killed %ld other %ld\n", ran[0], ran[1], refused, killed, other);
	return 0;
}

static int say_word(char **arguments)
{
	return strcmp(arguments[0], "good") == 0 ? 10 : strcmp(arguments[0], "evil") == 0 ? 11 : 15;
}

static struct {
	const char *how;
	const char *broken;
	char *program[2];
	long count;
	atomic_long ran;
	atomic_int first_error;
} spawning;

static void on_alarm(int signal_number)
{
	(void)signal_number;
}

static int spawn_one(pid_t *ret_pid)
{
	pid_t pid;

	if (spawning.how[0] == 's')
		return posix_spawn(ret_pid, spawning.program[0], NULL, NULL, spawning.program, environ);
	pid = spawning.how[0] == 'v' ? vfork() : fork();
	if (pid == 0) {
		execv(spawning.program[0], spawning.program);
		_exit(100 + errno % 100);
	}
	*ret_pid = pid;
	return pid < 0 ? errno : 0;
}

static void *spawn_many(void *unused)
{
	(void)unused;
	for (long i = 0; i < spawning.count; i++) {
		int status = 0, error;
		pid_t pid = -1;

		error = spawn_one(&pid);
		while (error == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (error == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 10)
			atomic_fetch_add(&spawning.ran, 1);
		else
			atomic_store(&spawning.first_error, error != 0 ? error : status);
	}
	return NULL;
}

static void run_threads(int count, void *(*run)(void *))
{
	pthread_t threads[64];

	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, run, NULL) != 0)
			_exit(99);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static int run_spawn(char **arguments)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { 0 };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &action, NULL);
	spawning.how = arguments[0];
	spawning.count = strtol(arguments[2], NULL, 10);
	spawning.program[0] = arguments[3];
	setitimer(ITIMER_REAL, &often, NULL);
	run_threads(atoi(arguments[1]), spawn_many);
	setitimer(ITIMER_REAL, &never, NULL);
	printf("%ld ran", atomic_load(&spawning.ran));
	if (atomic_load(&spawning.first_error) != 0)
		printf(", error %#x", (unsigned int)atomic_load(&spawning.first_error));
	puts("");
	return 0;
}

static pthread_barrier_t all_there;

static void *execute_both(void *unused)
{
	char *plain[] = { "program", NULL };

	(void)unused;
	pthread_barrier_wait(&all_there);
	for (int i = 0; i < 3; i++)
		if (execv(spawning.broken, plain) == 0 || errno != ENOEXEC)
			_exit(20);
	execv(spawning.program[0], plain);
	_exit(21);
}

static int run_storm(char **arguments)
{
	int threads = atoi(arguments[0]), ran = 0;
	long count = strtol(arguments[1], NULL, 10);

	spawning.broken = arguments[2];
	spawning.program[0] = arguments[3];
	for (long i = 0; i < count; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			pthread_barrier_init(&all_there, NULL, (unsigned int)threads);
			run_threads(threads, execute_both);
			_exit(22);
		}
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 10)
			ran++;
		else
			printf("status %#x\n", (unsigned int)status);
	}
	printf("%d ran\n", ran);
	return 0;
}

static int run_fexecve(char **arguments)
{
	char *plain[] = { "program", NULL };
	int fd = open(arguments[0], O_RDONLY);

	fexecve(fd, plain, environ);
	return fail("fexecve");
}

static int run_execveat(char **arguments)
{
	char *plain[] = { "program", NULL };
	char *slash = strrchr(arguments[0], '/');
	int fd;

	*slash = 0;
	fd = open(arguments[0], O_PATH | O_DIRECTORY);
	syscall(SYS_execveat, fd, slash + 1, plain, environ, 0);
	return fail("execveat");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		int (*run)(char **arguments);
	} acts[] = {
		{ "race", 4, run_race },	{ "said", 1, say_word },
		{ "spawn", 4, run_spawn },	{ "storm", 4, run_storm },
		{ "fexecve", 1, run_fexecve },	{ "execveat", 1, run_execveat },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc > 1 && i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (strcmp(acts[i].name, argv[1]) == 0 && argc - 2 >= acts[i].arguments)
			return acts[i].run(argv + 2);
	}
	fprintf(stderr, "execute: no such act, or too few arguments\n");
	return 2;
}
