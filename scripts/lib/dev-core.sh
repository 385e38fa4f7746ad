# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# The folder of private services: its state file, its lock, its ports, and the processes that belong to it.
#
# DIR/dev.state   lines "key value", written once by `up` (mode 0600, holds the passwords)
# DIR/pid/NAME    "PID:START BOOT_ID" of each process that was started
# DIR/log/NAME.log

# A pid and start time mean a process only within one boot.
read -r BOOT_ID </proc/sys/kernel/random/boot_id

declare -A STATE=()

# What `up` and `sandbox` make in DIR, and so what `down` removes.
DEV_MADE=(rabbitmq postgres ssh pid zr run bin sandbox hosts zr.conf dev.state dev.lock)

# Quotes, dollars, per cents and backslashes mean something in one of the configuration files that we write.
DEV_UNSAFE="\"'\\\$%;#*?{}"

check_dir_name() {
	[[ $1 != *["$DEV_UNSAFE"]* && $1 != *[[:cntrl:]]* ]] ||
		die_usage "cannot use '$1': the folder's path must not hold any of \" ' \\ \$ % ; # * ? { } or control characters"
}

state_file_trusted() {
	[[ -O $DIR/dev.state ]] || die_usage "$DIR/dev.state belongs to another user: run this as the user who ran 'up'"
}

state_load() {
	local key value
	STATE=()
	[[ -f $DIR/dev.state ]] || return 1
	state_file_trusted
	while read -r key value; do
		[[ -z $key ]] || STATE[$key]=$value
	done <"$DIR/dev.state"
}

state_need() {
	state_load || die_usage "nothing is set up in $DIR: run 'scripts/dev up $DIR' first"
}

state_save() {
	local key
	for key in "${!STATE[@]}"; do
		printf '%s %s\n' "$key" "${STATE[$key]}"
	done >"$DIR/dev.state.new"
	mv "$DIR/dev.state.new" "$DIR/dev.state"
}

# One command at a time changes DIR. `down` unlinks the file, so the one who waited looks whether it still is the same.
lock_dir() {
	while :; do
		exec {LOCK_FD}>"$DIR/dev.lock"
		flock "$LOCK_FD"
		[[ ! "$DIR/dev.lock" -ef /proc/self/fd/$LOCK_FD ]] || return 0
		exec {LOCK_FD}>&-
	done
}

# Prints N free ports of 127.0.0.1 that the kernel chose. Each is left in TIME_WAIT by one short connection to itself, so
# that for a minute the kernel gives it to nobody else, while a server (SO_REUSEADDR) may bind it.
free_ports() { # free_ports N
	perl -MSocket -e '
		for (1 .. shift) {
			socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
			setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
			bind($s, sockaddr_in(0, INADDR_LOOPBACK)) or die "bind: $!\n";
			listen($s, 1) or die "listen: $!\n";
			my $name = getsockname($s);
			socket(my $c, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
			connect($c, $name) or die "connect: $!\n";
			accept(my $a, $s) or die "accept: $!\n";
			close($a);
			push @held, $s, $c;
			print((sockaddr_in($name))[0], "\n");
		}' "$1"
}

tcp_open() { # tcp_open PORT
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Nothing of the caller may reach the servers: no descriptor (a pipe that is never closed makes the caller wait for ever),
# no setting of another RabbitMQ or PostgreSQL, no notify socket.
clean_environment() {
	local v
	for v in $(compgen -e); do
		case $v in
		RABBITMQ_* | ERL_* | PG* | NOTIFY_SOCKET | LISTEN_* | WATCHDOG_* | JOURNAL_STREAM) unset "$v" ;;
		esac
	done
	export LC_ALL=C.UTF-8
}

close_descriptors() {
	local f
	for f in /proc/self/fd/*; do
		f=${f##*/}
		((f <= 2)) || eval "exec $f>&-"
	done
}

# Starts a server in a session of its own with DIR/NAME as its folder, and records it.
spawn() { # spawn NAME FOLDER COMMAND...
	local name=$1 folder=$2
	shift 2
	(
		close_descriptors
		umask 022
		cd "$folder" || exit 1
		exec setsid "$@"
	) </dev/null >>"$DIR/log/$name.log" 2>&1 &
	printf '%s %s\n' "$(proc_id $!)" "$BOOT_ID" >"$DIR/pid/$name"
}

# Prints the recorded PID:START of a server if it lives.
pid_of() { # pid_of NAME
	local id boot
	{ read -r id boot <"$DIR/pid/$1"; } 2>/dev/null || return 1
	[[ $boot == "$BOOT_ID" ]] && proc_alive "$id" && echo "$id"
}

is_alive() { # is_alive NAME
	pid_of "$1" >/dev/null
}

# Prints the processes named COMM... (first 15 bytes) whose folder is in DIR/FOLDER or whose HOME is: what a server leaves
# behind when it is killed before its children.
strays() { # strays FOLDER COMM...
	local home=$DIR/$1 f comm cwd
	shift
	for f in /proc/[0-9]*; do
		{ read -r comm <"$f/comm"; } 2>/dev/null || continue
		[[ " $* " == *" $comm "* ]] || continue
		cwd=$(readlink "$f/cwd" 2>/dev/null) || continue
		if [[ $cwd == "$home" || $cwd == "$home"/* ]] || grep -qzxF "HOME=$home" "$f/environ" 2>/dev/null; then
			proc_id "${f#/proc/}" || true
		fi
	done
}

# Ends processes: the signal first, SIGKILL for what is still there after SECONDS.
end_processes() { # end_processes SIGNAL SECONDS PID:START...
	local sig=$1 seconds=$2
	shift 2
	signal_all "$sig" "$@"
	wait_until "$seconds" none_alive "$@" && return
	signal_all KILL "$@"
	wait_until 10 none_alive "$@" || die "processes $* do not end"
}
