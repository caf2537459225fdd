package engine

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// connector opens connections to PostgreSQL, directly or through a pooler such as PgBouncer. A direct connection
// prepares statements. Through a pooler it sends them in full, which makes PostgreSQL parse and plan each one again,
// because with transaction pooling a prepared statement may be in another session.
type connector struct {
	direct, pooled sqldriver.Connector
	behindPooler   atomic.Bool // set once it is known
}

func newConnector(config pgx.ConnConfig) *connector {
	c := &connector{direct: stdlib.GetConnector(config)}
	if config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement { // the operator has chosen
		c.pooled = c.direct
		c.behindPooler.Store(true)
		return c
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	c.pooled = stdlib.GetConnector(config)
	return c
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (sqldriver.Conn, error) {
	if c.behindPooler.Load() {
		return c.pooled.Connect(ctx)
	}
	conn, err := c.direct.Connect(ctx)
	if err != nil {
		return nil, err
	}
	direct, err := isDirect(ctx, conn)
	if err == nil && direct {
		// To start worker processes takes longer than any query of a list. A pooler's sessions belong to others too.
		const alone = "SET max_parallel_workers_per_gather = 0"
		if _, err = conn.(*stdlib.Conn).Conn().Exec(ctx, alone, pgx.QueryExecModeExec); err == nil {
			return conn, nil
		}
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	c.behindPooler.Store(true)
	return c.pooled.Connect(ctx)
}

// Driver implements driver.Connector.
func (c *connector) Driver() sqldriver.Driver { return c.direct.Driver() }

// isDirect reports whether the server process that answers is the one that was announced when the connection was made.
// A pooler announces a process of its own.
func isDirect(ctx context.Context, conn sqldriver.Conn) (bool, error) {
	pg, ok := conn.(*stdlib.Conn)
	if !ok {
		return false, fmt.Errorf("store: pgx returns a %T", conn)
	}
	var pid int64
	if err := pg.Conn().QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return false, err
	}
	return pid == int64(pg.Conn().PgConn().PID()), nil
}
