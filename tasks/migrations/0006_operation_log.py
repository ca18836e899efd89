from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0005_e2b'),
    ]

    operations = [
        migrations.AddField(
            model_name='operation',
            name='log',
            field=models.TextField(blank=True),
        ),
    ]
