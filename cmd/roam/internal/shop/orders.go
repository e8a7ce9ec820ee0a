package shop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

// An Order is what a user has bought, at the prices of that moment.
type Order struct {
	ID     string // the ID of the cart that it was
	User   string
	Lines  []Item
	Placed time.Time
}

// An Item is a line of an order.
type Item struct {
	Product string `json:"product"`
	Qty     int    `json:"qty"`
	Cents   int    `json:"cents"` // of one
}

func newOrder(user string, c Cart) Order {
	o := Order{ID: c.ID, User: user}
	for _, l := range c.Lines {
		o.Lines = append(o.Lines, Item{l.Product, l.Qty, productNamed(l.Product).Cents})
	}
	return o
}

// Qty returns how many of a product were ordered.
func (o Order) Qty(product string) int {
	for _, i := range o.Lines {
		if i.Product == product {
			return i.Qty
		}
	}
	return 0
}

// Cents returns what the order costs.
func (o Order) Cents() (sum int) {
	for _, i := range o.Lines {
		sum += i.Qty * i.Cents
	}
	return sum
}

// Number is the part of the ID that people read to each other.
func (o Order) Number() string { return o.ID[:min(8, len(o.ID))] }

// orders keeps orders in one SQLite file, which the web servers of a machine
// share. An order is one row and is never changed, so that placing one is one
// statement.
type orders struct{ db *sql.DB }

const ordersSchema = `
	CREATE TABLE IF NOT EXISTS orders (
		id     TEXT PRIMARY KEY,
		user   TEXT NOT NULL,
		lines  TEXT NOT NULL CHECK (json_valid(lines)),
		placed INTEGER NOT NULL -- microseconds since 1970
	) STRICT;
	CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user, placed);`

// openOrders opens or makes the file. In WAL mode readers and the writer do
// not wait for each other; synchronous FULL keeps an order through a power cut.
func openOrders(path string) (*orders, error) {
	if path == "" {
		return nil, errors.New("shop: Config.Orders is empty: want the path of the orders database")
	}
	f, err := os.OpenFile(path, os.O_CREATE, 0o600) // SQLite alone would let everybody read it
	if err != nil {
		return nil, fmt.Errorf("shop: orders database: %w", err)
	}
	f.Close()
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", ordersBusy.Milliseconds()), "journal_mode(wal)", "synchronous(full)"}, "_txlock": {"immediate"}}
	db, err := driver.Open((&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("shop: orders database %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	// Two servers that make the file at once both want to switch it to WAL,
	// and SQLite tells one of them "locked" without waiting: it cannot know
	// who of the two would have to give way.
	for began := time.Now(); ; time.Sleep(time.Duration(1+rand.IntN(20)) * time.Millisecond) {
		_, err := db.Exec(ordersSchema)
		if err == nil {
			return &orders{db}, nil
		}
		if !errors.Is(err, sqlite3.BUSY) || time.Since(began) > ordersBusy {
			db.Close()
			return nil, fmt.Errorf("shop: orders database %s: %w", path, err)
		}
	}
}

// ordersBusy is how long an order waits for other servers' orders.
const ordersBusy = 10 * time.Second

func (o *orders) close() error { return o.db.Close() }

// place stores an order and returns it as stored. If its ID has been placed
// before, nothing is stored and that order is returned.
func (o *orders) place(ctx context.Context, order Order) (Order, error) {
	lines, err := json.Marshal(order.Lines)
	if err != nil {
		return Order{}, err
	}
	_, err = o.db.ExecContext(ctx, `INSERT INTO orders (id, user, lines, placed) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		order.ID, order.User, string(lines), time.Now().UnixMicro())
	if err != nil {
		return Order{}, fmt.Errorf("%w: place: %w", errOrders, err)
	}
	return o.find(ctx, order.User, order.ID)
}

// find returns the user's order with this ID, or errNoOrder.
func (o *orders) find(ctx context.Context, user, id string) (Order, error) {
	found, err := o.query(ctx, `SELECT id, user, lines, placed FROM orders WHERE user = ? AND id = ?`, user, id)
	if err != nil {
		return Order{}, err
	}
	if len(found) == 0 {
		return Order{}, errNoOrder
	}
	return found[0], nil
}

// list returns the user's orders, newest first.
func (o *orders) list(ctx context.Context, user string) ([]Order, error) {
	return o.query(ctx, `SELECT id, user, lines, placed FROM orders WHERE user = ? ORDER BY placed DESC, id`, user)
}

func (o *orders) query(ctx context.Context, query string, args ...any) ([]Order, error) {
	rows, err := o.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOrders, err)
	}
	defer rows.Close()
	var found []Order
	for rows.Next() {
		var order Order
		var lines string
		var placed int64
		if err := rows.Scan(&order.ID, &order.User, &lines, &placed); err != nil {
			return nil, fmt.Errorf("%w: %w", errOrders, err)
		}
		if err := json.Unmarshal([]byte(lines), &order.Lines); err != nil {
			return nil, fmt.Errorf("shop: lines of order %s: %w", order.ID, err)
		}
		order.Placed = time.UnixMicro(placed)
		found = append(found, order)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errOrders, err)
	}
	return found, nil
}
