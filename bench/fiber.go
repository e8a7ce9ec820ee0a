package main

import (
	"context"
	"encoding/base64"
	"net"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gofiber/storage/redis/v3"
)

func newFiberMemory(_ context.Context, e *env) (*site, error) { return newFiber(e, nil, nil), nil }

func newFiberRedis(_ context.Context, e *env) (*site, error) {
	storage := redis.New(redis.Config{URL: e.Redis.URL, PoolSize: peerConns})
	return newFiber(e, storage, func() { storage.Close() }), nil
}

// newFiber is the site on fiber's session middleware as its documentation has
// it: around the whole site, with a limit of idle time (it has no other way)
// and an absolute one, and a new ID at login. It panics when its store does not
// answer, so the middleware recover is there as well.
func newFiber(e *env, storage fiber.Storage, end func()) *site {
	lifetime := 24 * time.Hour
	idle := 30 * time.Minute
	if e.Lifetime != 0 {
		lifetime, idle = e.Lifetime, e.Lifetime
	}
	app := fiber.New()
	app.Use(recover.New())
	middleware, _ := session.NewWithStore(session.Config{
		Storage: storage, IdleTimeout: idle, AbsoluteTimeout: lifetime, CookieSecure: true, CookieHTTPOnly: true,
	})
	app.Use(middleware)
	read := func(hold *gate) fiber.Handler {
		return func(c fiber.Ctx) error {
			s := session.FromContext(c)
			hold.pass()
			if user, _ := s.Get("user").(string); user == "" {
				return c.SendString("guest")
			}
			n, _ := s.Get("count").(int)
			return c.SendString(countText(n))
		}
	}
	add := func(hold *gate) fiber.Handler {
		return func(c fiber.Ctx) error {
			s := session.FromContext(c)
			n, _ := s.Get("count").(int)
			hold.pass()
			s.Set("count", n+1)
			return c.SendString(countText(n + 1))
		}
	}
	app.Get("/untouched", func(c fiber.Ctx) error { return c.SendString("hello") })
	app.Get("/who", func(c fiber.Ctx) error {
		user, _ := session.FromContext(c).Get("user").(string)
		return c.SendString(userText(user))
	})
	app.Get("/cart", read(nil))
	app.Get("/fresh", read(nil))
	app.Get(slowRead, read(e.gate))
	app.Post("/add", add(nil))
	app.Post(slowAdd, add(e.gate))
	app.Post("/login/:user", func(c fiber.Ctx) error {
		s := session.FromContext(c)
		if err := s.Regenerate(); err != nil {
			return err
		}
		// A string of fiber's is only valid until the answer is sent.
		user := string([]byte(c.Params("user")))
		s.Set("user", user)
		s.Set("cart", cart)
		return c.SendString(userText(user))
	})
	app.Post(logout, func(c fiber.Ctx) error {
		if err := session.FromContext(c).Destroy(); err != nil {
			return err
		}
		return c.SendString("bye")
	})
	return &site{
		fast: app.Handler(),
		serve: func(ln net.Listener) error {
			return app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})
		},
		forge: func(real string) string {
			c := parseJar(real)
			for i := range c {
				c[i].value = base64.RawURLEncoding.EncodeToString(random(32))
			}
			return c.header()
		},
		close: end,
	}
}
