from decimal import Decimal

from django.db import migrations

from agents.prices import PRICES


def add_prices(apps, schema_editor):
    """Those that are not there yet; a row that an operator has changed stays as it is."""
    price = apps.get_model("tasks", "Price")
    columns = ("input_usd", "cached_usd", "cache_write_usd", "output_usd")
    rows = [price(model=model, **dict(zip(columns, map(Decimal, figures), strict=True))) for model, *figures in PRICES]
    price.objects.using(schema_editor.connection.alias).bulk_create(rows, ignore_conflicts=True)


class Migration(migrations.Migration):

    dependencies = [
        ("tasks", "0003_agents"),
    ]

    operations = [
        migrations.RunPython(add_prices, migrations.RunPython.noop),
    ]
