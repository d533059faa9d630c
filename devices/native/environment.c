/* Snapshot of everything that may change latency and is not part of the device's identity; null if not available.
 * Counters (steal_s, energy_j, switches) start at an arbitrary time. */

#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define FREQUENCIES "sys/devices/system/cpu/cpu0/cpufreq/"

extern char **environ;
/* Environment variables read by allocators, thread pools and runtimes. */
static const char *const VARIABLES[] = {"CUDA_", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_",
                                        "OPENBLAS_", "ORT_", "TORCH_"};

static void put_text_or_null(struct reply *reply, const char *text) {
    if (text != NULL)
        put_text(reply, text);
    else
        put(reply, "null");
}

static void put_line(struct reply *reply, const char *name, const char *file) {
    put(reply, ", \"%s\": ", name);
    put_text_or_null(reply, first_line(file));
}

void put_processors(struct reply *reply) {
    int *numbers;
    size_t count = allowed_processors(&numbers);
    for (size_t i = 0; i < count; i++) put(reply, "%s%d", i > 0 ? ", " : "[", numbers[i]);
    put(reply, "]");
}

static int by_name(const void *one, const void *other) {
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

static void put_variables(struct reply *reply) {
    size_t count = 0, all = 0;
    while (environ[all] != NULL) all++;
    const char **found = take(all * sizeof *found);
    for (size_t i = 0; i < all; i++)
        for (size_t j = 0; j < COUNT_OF(VARIABLES); j++)
            if (strncmp(environ[i], VARIABLES[j], strlen(VARIABLES[j])) == 0) found[count++] = environ[i];
    qsort(found, count, sizeof *found, by_name);
    put(reply, ", \"variables\": {");
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(found[i], '=');
        put(reply, "%s", i > 0 ? ", " : "");
        put_text(reply, taken("%.*s", (int)(equals - found[i]), found[i]));
        put(reply, ": ");
        put_text(reply, equals + 1);
    }
    put(reply, "}");
}

/* Name of the hypervisor; only x86 processors report its absence. */
static const char *virtualisation(void) {
    const char *named = first_line("sys/hypervisor/type"), *flags = field_of("proc/cpuinfo", "flags");
    if (named != NULL || flags == NULL) return named;
    if (strstr(taken(" %s ", flags), " hypervisor ") == NULL) return "none";
    const char *vendor = first_line("sys/class/dmi/id/sys_vendor"), *product = first_line("sys/class/dmi/id/product_name");
    if (vendor != NULL && product != NULL) return taken("%s %s", vendor, product);
    return vendor != NULL ? vendor : product != NULL ? product : "unnamed hypervisor";
}

/* In hertz, of a file in kilohertz; negative if not available. */
static double hertz_in(const char *file) {
    const char *line = first_line(file);
    char *end = NULL;
    double kilohertz = line != NULL ? strtod(line, &end) : -1;
    return line != NULL && end != line && *end == '\0' ? 1e3 * kilohertz : -1;
}

static void put_hertz(struct reply *reply, const char *name, double hertz) {
    put(reply, "\"%s\": ", name);
    if (hertz < 0)
        put(reply, "null");
    else
        put_real(reply, hertz);
}

/* Mean over the processors at present, and the limits of the first. */
static void put_frequency(struct reply *reply) {
    double now = hertz_in(FREQUENCIES "scaling_cur_freq"), least = hertz_in(FREQUENCIES "cpuinfo_min_freq");
    double most = hertz_in(FREQUENCIES "cpuinfo_max_freq");
    double megahertz = mean_of("proc/cpuinfo", "cpu MHz"); /* x86 */
    if (megahertz >= 0) now = 1e6 * megahertz;
    put(reply, ", \"frequency_hz\": ");
    if (now < 0 && least < 0 && most < 0) {
        put(reply, "null");
        return;
    }
    put(reply, "{");
    put_hertz(reply, "current", now);
    put(reply, ", ");
    put_hertz(reply, "min", least);
    put(reply, ", ");
    put_hertz(reply, "max", most);
    put(reply, "}");
}

/* Every group of processors with a clock of its own, and the share of its highest frequency that it may use now. */
static void put_clusters(struct reply *reply) {
    char **each = matching("sys/devices/system/cpu/cpufreq/policy*");
    put(reply, ", \"clusters\": ");
    if (*each == NULL) {
        put(reply, "null");
        return;
    }
    for (const char *between = "["; *each != NULL; each++, between = ", ") {
        put(reply, "%s{\"processors\": ", between);
        put_text_or_null(reply, first_line(taken("%s/related_cpus", *each)));
        put_line(reply, "governor", taken("%s/scaling_governor", *each));
        put(reply, ", ");
        put_hertz(reply, "current_hz", hertz_in(taken("%s/scaling_cur_freq", *each)));
        put(reply, ", ");
        put_hertz(reply, "allowed_hz", hertz_in(taken("%s/scaling_max_freq", *each)));
        put(reply, ", ");
        put_hertz(reply, "max_hz", hertz_in(taken("%s/cpuinfo_max_freq", *each)));
        put(reply, "}");
    }
    put(reply, "]");
}

struct sensor {
    const char *name;
    double degrees;
    struct sensor *next;
};

static void read_sensor(struct sensor **sensors, const char *name, const char *file) {
    const char *line = first_line(file);
    char *end = NULL;
    double degrees = line != NULL ? strtod(line, &end) / 1e3 : 0;
    if (name == NULL || line == NULL || end == line) return;
    struct sensor **known = sensors;
    while (*known != NULL && strcmp((*known)->name, name) != 0) known = &(*known)->next;
    if (*known == NULL) {
        *known = take(sizeof **known);
        **known = (struct sensor){name, degrees, NULL};
    }
    if (degrees > (*known)->degrees) (*known)->degrees = degrees;
}

/* Highest reading of the sensors of each kind. */
static void put_temperature(struct reply *reply) {
    struct sensor *sensors = NULL;
    for (char **each = matching("sys/class/thermal/thermal_zone*"); *each != NULL; each++)
        read_sensor(&sensors, first_line(taken("%s/type", *each)), taken("%s/temp", *each));
    for (char **each = matching("sys/class/hwmon/hwmon*"); *each != NULL; each++)
        for (char **input = matching(taken("%s/temp*_input", *each)); *input != NULL; input++)
            read_sensor(&sensors, first_line(taken("%s/name", *each)), *input);
    put(reply, ", \"temperature_c\": %s", sensors == NULL ? "null" : "{");
    for (struct sensor *each = sensors; each != NULL; each = each->next) {
        put_text(reply, each->name);
        put(reply, ": ");
        put_real(reply, each->degrees);
        put(reply, "%s", each->next != NULL ? ", " : "}");
    }
}

/* Android hides the files of the battery, and tells of it by a program. */
static void read_android_battery(const char **capacity, const char **status) {
    static const char *const words[] = {NULL, "Unknown", "Charging", "Discharging", "Not charging", "Full"};
    FILE *lines = output_of("system/bin/dumpsys", "battery");
    char *line;
    while (lines != NULL && (line = next_line(lines)) != NULL) {
        const char *level = value_in(line, "level"), *number = value_in(line, "status");
        size_t word = number != NULL ? strtoul(number, NULL, 10) : 0;
        if (level != NULL) *capacity = level;
        if (word < COUNT_OF(words) && words[word] != NULL) *status = words[word];
    }
    if (lines != NULL) pclose(lines);
}

/* Charge in per cent and state of the first battery. */
static void put_battery(struct reply *reply) {
    char **each = matching("sys/class/power_supply/*");
    const char *type = NULL, *capacity = NULL, *status = NULL;
    while (*each != NULL && ((type = first_line(taken("%s/type", *each))) == NULL || strcmp(type, "Battery") != 0)) each++;
    if (*each != NULL) {
        capacity = first_line(taken("%s/capacity", *each));
        status = first_line(taken("%s/status", *each));
    } else {
        read_android_battery(&capacity, &status);
    }
    put(reply, ", \"battery\": ");
    if (*each == NULL && capacity == NULL && status == NULL) {
        put(reply, "null");
        return;
    }
    put(reply, "{\"capacity\": ");
    put_text_or_null(reply, capacity);
    put(reply, ", \"status\": ");
    put_text_or_null(reply, status);
    put(reply, "}");
}

/* Seconds that the hypervisor gave to other guests, summed over processors. */
static void put_steal(struct reply *reply) {
    const char *line = first_line("proc/stat");
    long long ticks[8];
    bool known = line != NULL && sscanf(line, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", ticks, ticks + 1, ticks + 2,
                                        ticks + 3, ticks + 4, ticks + 5, ticks + 6, ticks + 7) == 8;
    put(reply, ", \"steal_s\": ");
    if (known)
        put_real(reply, (double)ticks[7] / (double)sysconf(_SC_CLK_TCK));
    else
        put(reply, "null");
}

static void put_load(struct reply *reply) {
    const char *line = first_line("proc/loadavg");
    double load[3];
    put(reply, ", \"load_average\": ");
    if (line == NULL || sscanf(line, "%lf %lf %lf", load, load + 1, load + 2) != 3)
        put(reply, "null");
    else
        put(reply, "[%g, %g, %g]", load[0], load[1], load[2]);
}

void put_environment(struct reply *reply, const char *runtime) {
    char at[sizeof "2000-01-01T00:00:00+00:00"];
    time_t now = time(NULL);
    strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S+00:00", gmtime(&now));
    struct utsname system;
    uname(&system);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double joules;
    bool metered = has_energy(&joules);

    put(reply, "\"environment\": {\"at\": \"%s\", \"system\": ", at);
    put_text(reply, taken("%s %s (%s)", system.sysname, system.release, system.machine));
    put_line(reply, "boot", "proc/sys/kernel/random/boot_id"); /* equal for all that share processors */
    put(reply, ", \"packages\": {\"onnxruntime\": ");
    put_text(reply, runtime);
    put(reply, "}");
    put_variables(reply);
    put(reply, ", \"physical_cores\": %zu, \"logical_processors\": %ld, \"allowed_processors\": ", physical_cores(),
        sysconf(_SC_NPROCESSORS_ONLN));
    put_processors(reply);
    put(reply, ", \"virtualisation\": ");
    put_text_or_null(reply, virtualisation());
    put_line(reply, "governor", FREQUENCIES "scaling_governor");
    put_frequency(reply);
    put_clusters(reply);
    put_line(reply, "clock_source", "sys/devices/system/clocksource/clocksource0/current_clocksource");
    put_line(reply, "large_pages", "sys/kernel/mm/transparent_hugepage/enabled");
    put_load(reply);
    put(reply, ", \"pressure\": {\"cpu\": ");
    put_text_or_null(reply, first_line("proc/pressure/cpu"));
    put_line(reply, "memory", "proc/pressure/memory");
    put(reply, "}");
    put_steal(reply);
    put(reply, ", \"switches\": {\"voluntary\": %ld, \"involuntary\": %ld}", used.ru_nvcsw, used.ru_nivcsw);
    put(reply, ", \"free_bytes\": %lld", (long long)free_bytes());
    put_temperature(reply);
    put_battery(reply);
    put(reply, ", \"energy_j\": ");
    if (metered)
        put_real(reply, joules);
    else
        put(reply, "null");
    put(reply, "}");
}
