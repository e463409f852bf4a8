// SPDX-License-Identifier: Apache-2.0
#include "attack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* An attempt that hangs ends by SIGALRM, which its line says. */
#define ATTEMPT_SECONDS 20

static const struct attack *const groups[] = {
	file_attacks, metadata_attacks, network_attacks, process_attacks, kernel_attacks, race_attacks,
};

static const struct attack *find(const char *name, int count)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		for (const struct attack *attack = groups[i]; attack->name; attack++) {
			if (strcmp(attack->name, name) == 0 && attack->arguments == count)
				return attack;
		}
	}
	return NULL;
}

static void say(int index, const char *word)
{
	printf("%d %s\n", index, word);
	fflush(stdout);
}

static void attempt(int index, const struct attack *attack, char **arguments)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		alarm(ATTEMPT_SECONDS);
		say(index, attack->run(arguments) < 0 ? strerrorname_np(errno) : "ok");
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		say(index, "no-process");
	} else if (WIFSIGNALED(status)) {
		char word[16];

		snprintf(word, sizeof(word), "signal %d", WTERMSIG(status));
		say(index, word);
	}
}

int main(int argc, char **argv)
{
	int index = 0;

	for (int at = 1; at < argc;) {
		int end = at + 1;
		const struct attack *attack;

		while (end < argc && strcmp(argv[end], "--") != 0)
			end++;
		/* argv[at] is "--", then the name. */
		attack = at + 1 < argc ? find(argv[at + 1], end - at - 2) : NULL;
		if (!attack) {
			fprintf(stderr, "no such attack, or not so many arguments: %s\n", argv[at + 1]);
			return 2;
		}
		if (end < argc)
			argv[end] = NULL;
		attempt(index++, attack, argv + at + 2);
		if (end < argc)
			argv[end] = "--";
		at = end;
	}
	return 0;
}
