// SPDX-License-Identifier: Apache-2.0
/*
 * Calls whose arguments are judged from outside, and what came of them.
 *   open UMASK FLAGS MODE PATH   one open; numbers are octal. Prints what the descriptor is, or the errno.
 *   race-open A B COUNT          opens a path that another thread flips between A and B, A first
 *   race-connect A B COUNT       connects to 127.0.0.1 while another thread flips the port between A and B
 *   many THREADS PATH            opens PATH for writing from so many threads at once
 *   fifo FIFO PATH               one thread opens FIFO for writing, and meanwhile another PATH
 *   backlog                      prints a port of 127.0.0.1 that answers no more connects, and waits
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int say(int result)
{
	puts(result < 0 ? strerrorname_np(errno) : "ok");
	return result < 0;
}

static int open_once(char **arguments)
{
	struct stat status;
	int fd, flags;

	umask((mode_t)strtol(arguments[0], NULL, 8));
	fd = open(arguments[3], (int)strtol(arguments[1], NULL, 8), (mode_t)strtol(arguments[2], NULL, 8));
	if (fd < 0 || fstat(fd, &status) < 0)
		return say(-1);
	flags = fcntl(fd, F_GETFL);
	printf("mode %o links %d size %d%s%s%s\n", status.st_mode & 07777, (int)status.st_nlink, (int)status.st_size,
	       fcntl(fd, F_GETFD) & FD_CLOEXEC ? " cloexec" : "", flags & O_APPEND ? " append" : "",
	       (flags & O_ACCMODE) == O_RDONLY ? " read" : (flags & O_ACCMODE) == O_WRONLY ? " write" : " both");
	return 0;
}

/* What the racing thread writes to, and the two values that it alternates between. */
static struct {
	atomic_int stop;
	volatile char path[256];
	const char *paths[2];
	struct sockaddr_in address;
	in_port_t ports[2];
} shared;

/* Changes one byte: the paths are equal but for their last one, so that each is whole at any moment. */
static void *flip_path(void *unused)
{
	size_t last = strlen(shared.paths[0]) - 1;

	(void)unused;
	for (int turn = 0; !atomic_load(&shared.stop); turn ^= 1)
		shared.path[last] = shared.paths[turn][last];
	return NULL;
}

static void *flip_port(void *unused)
{
	(void)unused;
	for (int turn = 0; !atomic_load(&shared.stop); turn ^= 1)
		*(volatile in_port_t *)&shared.address.sin_port = shared.ports[turn];
	return NULL;
}

static int race_open(char **arguments)
{
	long count = strtol(arguments[2], NULL, 10), opened[2] = { 0 }, refused = 0;
	struct stat wanted[2], got;
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		shared.paths[i] = arguments[i];
		if (strlen(arguments[i]) >= sizeof(shared.path) || stat(arguments[i], &wanted[i]) < 0)
			return say(-1);
	}
	strcpy((char *)shared.path, shared.paths[0]);
	pthread_create(&thread, NULL, flip_path, NULL);
	for (long i = 0; i < count; i++) {
		int fd = open((const char *)shared.path, O_WRONLY | O_CLOEXEC);

		if (fd < 0 || fstat(fd, &got) < 0) {
			refused++;
			continue;
		}
		opened[got.st_ino == wanted[1].st_ino]++;
		close(fd);
	}
	atomic_store(&shared.stop, 1);
	pthread_join(thread, NULL);
	printf("first %ld second %ld refused %ld\n", opened[0], opened[1], refused);
	return 0;
}

static int race_connect(char **arguments)
{
	long count = strtol(arguments[2], NULL, 10), connected[2] = { 0 }, refused = 0;
	pthread_t thread;

	shared.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	for (int i = 0; i < 2; i++)
		shared.ports[i] = htons((in_port_t)atoi(arguments[i]));
	shared.address.sin_port = shared.ports[0];
	pthread_create(&thread, NULL, flip_port, NULL);
	for (long i = 0; i < count; i++) {
		struct linger reset = { .l_onoff = 1 };
		struct sockaddr_in peer;
		socklen_t length = sizeof(peer);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return say(-1);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (connect(fd, (struct sockaddr *)&shared.address, sizeof(shared.address)) < 0 ||
		    getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
			refused++;
		else
			connected[peer.sin_port == shared.ports[1]]++;
		close(fd);
	}
	atomic_store(&shared.stop, 1);
	pthread_join(thread, NULL);
	printf("first %ld second %ld refused %ld\n", connected[0], connected[1], refused);
	return 0;
}

static atomic_int opened_count;

static void *open_for_writing(void *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		atomic_fetch_add(&opened_count, 1);
	return NULL;
}

static int open_many(char **arguments)
{
	int threads = atoi(arguments[0]);
	pthread_t *ids = calloc((size_t)threads, sizeof(*ids));
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < threads; i++) {
		errno = pthread_create(&ids[i], &small, open_for_writing, arguments[1]);
		if (errno != 0)
			return say(-1);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	free(ids);
	printf("%d opened\n", atomic_load(&opened_count));
	return 0;
}

static int open_beside_fifo(char **arguments)
{
	pthread_t thread;
	int fd;

	pthread_create(&thread, NULL, open_for_writing, arguments[0]);
	fd = open(arguments[1], O_WRONLY | O_CLOEXEC);
	puts(fd < 0 ? strerrorname_np(errno) : "beside");
	pthread_join(thread, NULL);
	puts(atomic_load(&opened_count) == 1 ? "fifo" : "no fifo");
	return 0;
}

static int fill_backlog(char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)arguments;
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 0) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return say(-1);
	/* One more than fits, so that none is taken any more. */
	for (int i = 0; i < 3; i++) {
		int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		connect(client, (struct sockaddr *)&address, length);
	}
	printf("%d\n", ntohs(address.sin_port));
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		int (*run)(char **arguments);
	} acts[] = {
		{ "open", 4, open_once },	    { "race-open", 3, race_open },
		{ "race-connect", 3, race_connect }, { "many", 2, open_many },
		{ "fifo", 2, open_beside_fifo },    { "backlog", 0, fill_backlog },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc > 1 && i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (strcmp(acts[i].name, argv[1]) == 0 && argc - 2 >= acts[i].arguments)
			return acts[i].run(argv + 2);
	}
	fprintf(stderr, "mediated: no such act, or too few arguments\n");
	return 2;
}
