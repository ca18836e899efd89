from asynccode.client.main import app

app(prog_name="asynccode")
