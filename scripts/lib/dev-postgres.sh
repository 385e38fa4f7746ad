# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# A private PostgreSQL cluster. It refuses to run as root, so root hands it to the user postgres (or nobody).

postgres_new() {
	STATE["pg_port"]=$(free_ports 1)
	STATE["pg_password"]=$(random_hex 16)
	STATE["pg_admin_password"]=$(random_hex 16)
	((EUID != 0)) || STATE["pg_user"]=$(id -un postgres 2>/dev/null || echo nobody)
}

postgres_ports() {
	STATE["pg_port"]=$(free_ports 1)
}

postgres_bin() {
	local d
	for d in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5Vr); do
		[[ ! -x $d/initdb ]] || {
			echo "$d"
			return
		}
	done
	die "PostgreSQL's server programs are missing: run scripts/install-deps"
}

# Fills PG_AS with the words that make root another user. That user may have no way into DIR (a test's folder of mode
# 0700): then it gets the one capability to walk through folders, and nothing else.
postgres_as() {
	local user=${STATE[pg_user]:-} cap
	PG_AS=()
	[[ -n $user ]] || return 0
	for cap in '' dac_read_search dac_override; do
		PG_AS=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups --no-new-privs)
		[[ -z $cap ]] || PG_AS+=("--inh-caps=-all,+$cap" "--ambient-caps=-all,+$cap")
		# shellcheck disable=SC2016
		# The shell's test asks for effective rights; access(2), which test(1) uses, would ignore the capability.
		! "${PG_AS[@]}" sh -c 'test -w "$1"' sh "$DIR/postgres" 2>/dev/null || return 0
	done
	die "user $user, who must run PostgreSQL for root, cannot reach $DIR: choose a folder that others may walk through"
}

# A socket's path has at most 107 bytes; a longer DIR does with TCP alone.
postgres_socket_dir() {
	local d=$DIR/postgres/socket
	((${#d} + 20 > 107)) || echo "$d"
}

postgres_initdb() {
	local pw=$DIR/postgres/pwfile
	echo "${STATE[pg_admin_password]}" >"$pw"
	((EUID != 0)) || chown "${STATE[pg_user]}:" "$pw"
	(cd "$DIR/postgres" && "${PG_AS[@]}" "$(postgres_bin)/initdb" -D "$DIR/postgres/data" -U postgres --pwfile="$pw" \
		--encoding=UTF8 --locale=C.UTF-8 --auth=scram-sha-256 --no-sync --no-instructions) >"$DIR/log/initdb.log" 2>&1 || {
		cat "$DIR/log/initdb.log" >>"$DIR/log/postgres.log"
		return 1
	}
	rm -f "$pw"
}

# mmap for dynamic shared memory: a killed server leaves its segments in its own folder, not in /dev/shm.
postgres_configure() {
	mkdir -p "$DIR/postgres/socket"
	((EUID != 0)) || chown -R "${STATE[pg_user]}:" "$DIR/postgres"
	postgres_as
	[[ -f $DIR/postgres/data/PG_VERSION ]] || postgres_initdb || return 1
	cat >"$DIR/postgres/data/postgresql.auto.conf" <<-END
		listen_addresses = '127.0.0.1${ZR_DEV_LISTEN:+,$ZR_DEV_LISTEN}'
		port = ${STATE[pg_port]}
		unix_socket_directories = '$(postgres_socket_dir | sed 's/.*/"&"/')'
		max_connections = 200
		shared_buffers = 32MB
		dynamic_shared_memory_type = mmap
		min_dynamic_shared_memory = 0
		password_encryption = scram-sha-256
		logging_collector = off
	END
	[[ -z ${ZR_DEV_LISTEN:-} ]] || grep -q '^host all all samenet' "$DIR/postgres/data/pg_hba.conf" ||
		echo 'host all all samenet scram-sha-256' >>"$DIR/postgres/data/pg_hba.conf"
}

postgres_psql() { # postgres_psql DATABASE [PSQL-OPTION...]: as the cluster's superuser
	local db=$1
	shift
	PGPASSWORD=${STATE[pg_admin_password]} psql -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "${STATE[pg_port]}" \
		-U postgres -d "$db" "$@"
}

postgres_answers() {
	"$(postgres_bin)/pg_isready" -q -t 2 -h 127.0.0.1 -p "${STATE[pg_port]}"
}

postgres_ready() {
	is_alive postgres && postgres_answers
}

postgres_settled() {
	! is_alive postgres || postgres_answers
}

postgres_start() {
	postgres_as
	postgres_forget_killed
	spawn postgres "$DIR/postgres" "${PG_AS[@]}" "$(postgres_bin)/postgres" -D "$DIR/postgres/data"
	wait_until 60 postgres_settled && is_alive postgres && postgres_first_time
}

# The role that zr uses is no superuser: what needs one shows up here and not at a site.
postgres_first_time() {
	[[ ! -f $DIR/postgres/made ]] || return 0
	postgres_psql postgres <<-END >/dev/null && touch "$DIR/postgres/made"
		SET password_encryption = 'scram-sha-256';
		CREATE ROLE zr LOGIN CREATEDB PASSWORD '${STATE[pg_password]}';
		CREATE DATABASE zr OWNER zr;
	END
}

postgres_processes() {
	local roots
	mapfile -t roots < <(pid_of postgres || true; strays postgres postgres initdb)
	proc_tree "${roots[@]}"
}

postgres_end() { # postgres_end SIGNAL SECONDS
	local all main
	mapfile -t all < <(postgres_processes)
	if main=$(pid_of postgres) && [[ $1 != KILL ]]; then
		end_processes "$1" "$2" "$main"
	fi
	end_processes KILL 10 "${all[@]}"
}

postgres_stop() { postgres_end INT 60; }
postgres_kill() { postgres_end KILL 10; }

# A killed server leaves postmaster.pid and one small System V segment, whose number is the second of line 7. A new server
# believes in the file while the pid in it exists, even as a zombie or as another program; we know that all are dead.
postgres_forget_killed() {
	local id file=$DIR/postgres/data/postmaster.pid
	[[ -f $file && -z $(postgres_processes) ]] || return 0
	id=$(awk 'NR == 7 { print $2 }' "$file")
	[[ -z $id ]] || ipcrm -m "$id" 2>/dev/null || true
	rm -f "$file" "$DIR"/postgres/socket/.s.PGSQL.*
}

postgres_discard() {
	postgres_end QUIT 20
	postgres_forget_killed
}

postgres_database_add() { # postgres_database_add NAME
	postgres_psql postgres -c "CREATE DATABASE \"$1\" OWNER zr" >/dev/null
}

postgres_database_drop() { # postgres_database_drop NAME
	postgres_psql postgres -c "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)" >/dev/null 2>&1
}

database_url() { # database_url DATABASE
	echo "postgresql://zr:${STATE[pg_password]}@127.0.0.1:${STATE[pg_port]}/$1"
}
