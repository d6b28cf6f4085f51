/* Makes fsync and fdatasync take as long as a file says, to be loaded with LD_PRELOAD.
 *
 * SLOW_SYNC_MS names a file with a number of milliseconds, read at each call; SLOW_SYNC_LOG one
 * that gets a line for each delayed call: when it began and ended, in ns of CLOCK_MONOTONIC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long long now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void delay(void)
{
	const char *order = getenv("SLOW_SYNC_MS"), *log = getenv("SLOW_SYNC_LOG");
	FILE *file = order ? fopen(order, "r") : NULL;
	long ms = 0;
	long long began = now();
	struct timespec pause;

	if (file) {
		if (fscanf(file, "%ld", &ms) != 1)
			ms = 0;
		fclose(file);
	}
	if (ms <= 0)
		return;
	pause.tv_sec = ms / 1000;
	pause.tv_nsec = ms % 1000 * 1000000L;
	nanosleep(&pause, NULL);
	file = log ? fopen(log, "a") : NULL;
	if (file) {
		fprintf(file, "%lld %lld\n", began, now());
		fclose(file);
	}
}

int fsync(int fd)
{
	delay();
	return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd)
{
	delay();
	return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
